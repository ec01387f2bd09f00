//! `sigstoreSigned`: what signatures in a real registry are worth, to cricket and to containers/image
//! itself (`policy-oracle`: Debian's skopeo has sigstore disabled), which must agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cricket_harness::sigstore::{self, Authority, Key, Signed, Subject};
use cricket_harness::tools;
use cricket_harness::trust::{Case, policy};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const EMAIL: &str = "person@example.com";
const ISSUER: &str = "https://issuer.example";
/// 2023-11-14.
const TIME: i64 = 1_700_000_000;
const ALWAYS: (i32, i32) = (2000, 2120);

/// One row: the requirement without its type, an image, and a word of the reason (`None`: accepted).
type Row<'a> = (&'a str, Value, &'a str, Option<&'a str>);

/// A node whose registry's attachments are looked at.
async fn start() -> Case {
    let case = Case::start(CRICKET, "").await;
    let file = case.node.daemon.registries_d().join("default.yaml");
    fs::write(file, "default-docker:\n  use-sigstore-attachments: true\n").unwrap();
    case
}

fn name(tag: &str) -> String {
    format!("127.0.0.1:5000/app:{tag}")
}

/// Pushes an image and the signatures that `sign` makes of its name and digest.
fn push(case: &mut Case, tag: &str, sign: impl FnOnce(&str, &str) -> Vec<Signed>) -> String {
    let (name, digest) = case.push("app", tag);
    let signatures = sign(&name, &digest);
    let carrier = sigstore::carrier(&signatures);
    let registry = case.node.registry();
    registry.push("app", &sigstore::tag(&digest), &carrier);
    digest
}

/// What containers/image says about the image under the node's policy.
fn oracle(case: &Case, name: &str) -> Result<(), String> {
    let mut command = case.node.net().command(&tools::policy_oracle());
    command.arg("trust").arg(case.node.daemon.policy_file());
    command.arg(case.node.daemon.registries_d()).arg(name);
    let output = tools::output(&mut command);
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(words),
        other => panic!("policy-oracle {name}: {other:?}: {words}"),
    }
}

async fn agree(case: &Case, table: &[Row<'_>]) {
    for (what, fields, tag, reason) in table {
        let mut requirement = fields.clone();
        requirement["type"] = json!("sigstoreSigned");
        case.set_policy(&policy(&json!([requirement])));
        let name = name(tag);
        let (theirs, ours) = (oracle(case, &name), case.pull(&name).await);
        let row = format!("{what}, {name}:\ncontainers/image: {theirs:?}\ncricket: {ours:?}");
        assert_eq!(theirs.is_ok(), ours.is_ok(), "no agreement: {row}");
        match (reason, ours) {
            (None, Ok(())) => {}
            (Some(reason), Err(ours)) => {
                let start = format!("SignatureValidationFailed: image {name}");
                assert!(ours.starts_with(&start) && ours.contains(reason), "{row}");
            }
            _ => panic!("{row}"),
        }
    }
}

fn data(text: &str) -> String {
    STANDARD.encode(text)
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn verdicts_on_keys_agree_with_containers_image() {
    let mut case = start().await;
    let dir = case.keys.clone();
    let (key, other) = (Key::new(), Key::new());
    let file = key.write(&dir.join("key.pub")).display().to_string();
    let others = other.write(&dir.join("other.pub"));
    let sign =
        |key: &Key, name: &str, digest: &str| Signed::new(key, sigstore::payload(name, digest));
    let signed = push(&mut case, "signed", |name, digest| {
        vec![sign(&key, name, digest)]
    });
    push(&mut case, "second", |name, digest| {
        vec![sign(&other, name, digest), sign(&key, name, digest)]
    });
    push(&mut case, "stranger", |name, digest| {
        vec![sign(&other, name, digest)]
    });
    push(&mut case, "moved", |name, _| {
        vec![sign(&key, name, &signed)]
    });
    push(&mut case, "renamed", |_, digest| {
        vec![sign(&key, &name("signed"), digest)]
    });
    push(&mut case, "cosign", |_, digest| {
        vec![sign(&key, "127.0.0.1:5000/app", digest)]
    });
    push(&mut case, "strict", |_, _| {
        vec![Signed::new(&key, b"{\"critical\":{}}".to_vec())]
    });
    push(&mut case, "bare", |name, digest| {
        let mut bare = sign(&key, name, digest);
        bare.annotations.clear();
        vec![bare]
    });
    push(&mut case, "none", |_, _| vec![]);
    let third = Key::new();
    push(&mut case, "third", |name, digest| {
        vec![sign(&third, name, digest)]
    });
    case.push("app", "unsigned");
    let by = |file: &str| json!({"keyPath": file});
    let repository = json!({"keyPath": file, "signedIdentity": {"type": "matchRepository"}});
    let elsewhere = json!({"keyPath": file, "signedIdentity": {"type": "exactReference", "dockerReference": name("signed")}});
    let either = json!({"keyDatas": [data(&other.public()), data(&key.public())]});
    let paths = json!({"keyPaths": [others, file]});
    let table = [
        ("path", by(&file), "signed", None),
        (
            "data",
            json!({"keyData": data(&key.public())}),
            "signed",
            None,
        ),
        ("one of several signatures", by(&file), "second", None),
        ("paths", paths.clone(), "stranger", None),
        ("paths", paths.clone(), "signed", None),
        (
            "paths",
            paths,
            "third",
            Some("not made by any of the 2 keys"),
        ),
        ("datas", either, "stranger", None),
        (
            "stranger",
            by(&file),
            "stranger",
            Some("not made by the key"),
        ),
        (
            "another digest",
            by(&file),
            "moved",
            Some("but over manifest sha256:"),
        ),
        ("another name", by(&file), "renamed", Some("app:signed\"")),
        ("another name that is meant", elsewhere, "renamed", None),
        (
            "cosign names no tag",
            by(&file),
            "cosign",
            Some("127.0.0.1:5000/app"),
        ),
        ("but the repository", repository, "cosign", None),
        ("no payload", by(&file), "strict", Some("not understood")),
        (
            "no annotation",
            by(&file),
            "bare",
            Some("cosign/signature is missing"),
        ),
        ("no layers", by(&file), "none", Some("the image has none")),
        ("no tag", by(&file), "unsigned", Some("the image has none")),
        (
            "no file",
            by("/nonexistent"),
            "signed",
            Some("/nonexistent does not exist"),
        ),
        (
            "no key",
            json!({"keyData": data("x")}),
            "signed",
            Some("not a public key"),
        ),
    ];
    agree(&case, &table).await;
    // where registries.d does not say so, nobody looks
    let file_d = case.node.daemon.registries_d().join("default.yaml");
    fs::write(
        file_d,
        "docker:\n  127.0.0.1:5000/other:\n    use-sigstore-attachments: true\n",
    )
    .unwrap();
    let row = (
        "not looked",
        by(&file),
        "signed",
        Some("the image has none"),
    );
    agree(&case, &[row]).await;
    case.finish().await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn verdicts_on_logs_and_certificates_agree_with_containers_image() {
    let mut case = start().await;
    let (key, log, other) = (Key::new(), Key::new(), Key::new());
    let root = Authority::root("root", ALWAYS);
    let between = root.below("between", ALWAYS);
    let sign = |name: &str, digest: &str| Signed::new(&key, sigstore::payload(name, digest));
    let logged = |signed: Signed| signed.logged(&log, &key.public(), TIME);
    push(&mut case, "logged", |name, digest| {
        vec![logged(sign(name, digest))]
    });
    push(&mut case, "unlogged", |name, digest| {
        vec![sign(name, digest)]
    });
    push(&mut case, "other-log", |name, digest| {
        vec![sign(name, digest).logged(&other, &key.public(), TIME)]
    });
    push(&mut case, "other-entry", |name, digest| {
        let borrowed = logged(sign(&self::name("logged"), digest));
        let bundle = borrowed.annotations[sigstore::BUNDLE].clone();
        vec![sign(name, digest).with(sigstore::BUNDLE, bundle)]
    });
    let mut subject = Subject::fulcio(EMAIL, ISSUER);
    subject.years = (2023, 2024);
    let chain = [between.pem.as_str(), root.pem.as_str()];
    let certified = |signed: Signed, subject: &Subject, time: i64| {
        let certificate = between.certify(&key, subject);
        let signed = signed.certified(&certificate, &chain);
        signed.logged(&log, &certificate, time)
    };
    let changed = |change: &dyn Fn(&mut Subject)| {
        let mut changed = subject.clone();
        change(&mut changed);
        changed
    };
    let later = TIME + 400 * 86400;
    for (tag, subject, time) in [
        ("fulcio", subject.clone(), TIME),
        ("late", subject.clone(), later),
        ("new-issuer", changed(&|it| it.issuers.0 = None), TIME),
        ("old-issuer", changed(&|it| it.issuers.1 = None), TIME),
        ("no-issuer", changed(&|it| it.issuers = (None, None)), TIME),
        (
            "two-issuers",
            changed(&|it| it.issuers.1 = Some("https://x".into())),
            TIME,
        ),
        (
            "issuer",
            changed(&|it| it.issuers = (Some("https://x".into()), None)),
            TIME,
        ),
        (
            "email",
            changed(&|it| it.names = Subject::fulcio("other@example.com", ISSUER).names),
            TIME,
        ),
        ("server", changed(&|it| it.for_code = false), TIME),
        (
            "pki",
            changed(&|it| {
                it.years = ALWAYS;
                it.names.push(sigstore::dns("build.example"));
            }),
            TIME,
        ),
    ] {
        push(&mut case, tag, |name, digest| {
            vec![certified(sign(name, digest), &subject, time)]
        });
    }
    push(&mut case, "chainless", |name, digest| {
        let certificate = between.certify(&key, &subject);
        let signed = sign(name, digest).certified(&certificate, &[]);
        vec![signed.logged(&log, &certificate, TIME)]
    });
    push(&mut case, "itself", |name, digest| {
        // a chain of the certificate's issuer alone: the last one counts as the root
        let certificate = between.certify(&key, &subject);
        let signed = sign(name, digest).certified(&certificate, &[&between.pem]);
        vec![signed.logged(&log, &certificate, TIME)]
    });
    let rekor = json!({"keyData": data(&key.public()), "rekorPublicKeyData": data(&log.public())});
    let rekors = json!({
        "keyDatas": [data(&other.public()), data(&key.public())],
        "rekorPublicKeyDatas": [data(&other.public()), data(&log.public())],
    });
    let fulcio = json!({
        "fulcio": {"caData": data(&root.pem), "oidcIssuer": ISSUER, "subjectEmail": EMAIL},
        "rekorPublicKeyData": data(&log.public()),
    });
    let stranger = Authority::root("root", ALWAYS);
    let mut strangers = fulcio.clone();
    strangers["fulcio"]["caData"] = json!(data(&stranger.pem));
    let pki = |more: Value| {
        let mut pki = json!({"caRootsData": data(&root.pem)});
        for (field, value) in more.as_object().unwrap() {
            pki[field] = value.clone();
        }
        json!({ "pki": pki })
    };
    let both = json!({"subjectEmail": EMAIL, "subjectHostname": "build.example"});
    let between_given = json!({"subjectEmail": EMAIL, "caIntermediatesData": data(&between.pem)});
    let with_rekor_rsa = json!({"keyData": data(&key.public()), "rekorPublicKeyData": data("x")});
    let f = || fulcio.clone();
    let table = [
        ("log", rekor.clone(), "logged", None),
        ("logs", rekors.clone(), "logged", None),
        ("logs", rekors, "other-log", None),
        (
            "no log",
            rekor.clone(),
            "unlogged",
            Some("cosign/bundle is missing"),
        ),
        (
            "other log",
            rekor.clone(),
            "other-log",
            Some("no Rekor key of the policy"),
        ),
        (
            "other entry",
            rekor,
            "other-entry",
            Some("Rekor entry: it is of another"),
        ),
        (
            "bad log key",
            with_rekor_rsa,
            "logged",
            Some("not a public key"),
        ),
        ("fulcio", f(), "fulcio", None),
        ("only the new issuer", f(), "new-issuer", None),
        ("only the old issuer", f(), "old-issuer", None),
        (
            "expired by then",
            f(),
            "late",
            Some("valid from 2023-01-01"),
        ),
        ("no issuer", f(), "no-issuer", Some("names no OIDC issuer")),
        ("two issuers", f(), "two-issuers", Some("two OIDC issuers")),
        ("issuer", f(), "issuer", Some("it names \"https://x\"")),
        (
            "e-mail",
            f(),
            "email",
            Some("it is for [\"other@example.com\"]"),
        ),
        ("server", f(), "server", Some("not for signing code")),
        (
            "no chain",
            f(),
            "chainless",
            Some("no authority of the policy"),
        ),
        (
            "chain without its root",
            f(),
            "itself",
            Some("no authority of the policy"),
        ),
        (
            "no certificate",
            f(),
            "logged",
            Some("cosign/certificate is missing"),
        ),
        ("stranger", strangers, "fulcio", Some("certificate: ")),
        ("pki", pki(json!({"subjectEmail": EMAIL})), "pki", None),
        ("pki, both names", pki(both.clone()), "pki", None),
        (
            "pki, no such host",
            pki(json!({"subjectHostname": "other.example"})),
            "pki",
            Some("host name \"other.example\" is required"),
        ),
        (
            "pki, no host",
            pki(both),
            "fulcio",
            Some("valid from 2023-01-01"),
        ),
        ("pki, intermediates", pki(between_given), "pki", None),
        (
            "pki, no certificate",
            pki(json!({"subjectEmail": EMAIL})),
            "logged",
            Some("cosign/certificate is missing"),
        ),
    ];
    agree(&case, &table).await;
    case.finish().await;
}

#[tokio::test]
async fn a_policy_that_containers_image_refuses_is_refused() {
    let mut case = start().await;
    case.push("app", "any");
    let table = [
        json!({}),
        json!({"keyPath": "/k", "keyData": "YQ=="}),
        json!({"keyPaths": []}),
        json!({"keyPath": "/k", "unknown": 1}),
        json!({"keyPath": "/k", "rekorPublicKeyPath": "/r", "rekorPublicKeyData": "YQ=="}),
        json!({"fulcio": {"caPath": "/c", "oidcIssuer": "i", "subjectEmail": "e"}}),
        json!({"fulcio": {"caPath": "/c", "oidcIssuer": "i"}, "rekorPublicKeyPath": "/r"}),
        json!({"pki": {"caRootsPath": "/c"}}),
        json!({"pki": {"caRootsPath": "/c", "subjectEmail": "e"}, "rekorPublicKeyPath": "/r"}),
        json!({"keyPath": "/k", "signedIdentity": {"type": "none"}}),
    ];
    for fields in table {
        let mut requirement = fields.clone();
        requirement["type"] = json!("sigstoreSigned");
        case.set_policy(&policy(&json!([requirement])));
        let theirs = oracle(&case, &name("any")).expect_err(&fields.to_string());
        assert!(theirs.starts_with("policy: "), "{fields}: {theirs}");
        let ours = case
            .pull(&name("any"))
            .await
            .expect_err(&fields.to_string());
        assert!(ours.contains("policy.json: "), "{fields}: {ours}");
    }
    case.finish().await;
}

/// More than containers/image bounds: there is a limit of signatures, and the image stays out.
#[tokio::test]
async fn a_flood_of_signatures_is_refused() {
    let mut case = start().await;
    let key = Key::new();
    let flood = |count: usize| {
        let key = &key;
        move |name: &str, digest: &str| {
            vec![Signed::new(key, sigstore::payload(name, digest)); count]
        }
    };
    push(&mut case, "many", flood(128));
    push(&mut case, "flood", flood(5000));
    let by = json!([{"type": "sigstoreSigned", "keyData": data(&key.public())}]);
    case.set_policy(&policy(&by));
    case.pull(&name("many")).await.unwrap();
    let error = case.pull(&name("flood")).await.unwrap_err();
    assert!(
        error.contains("larger than the limit of 128 signatures"),
        "{error}"
    );
    assert_eq!(case.node.cri.images().await.unwrap(), []);
    case.finish().await;
}
