//! Trust: what policy.json and real signatures make of a pull, and that skopeo says the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;

use cricket_harness::gpg::{self, FOREVER, Lifetime};
use cricket_harness::tools;
use cricket_harness::trust::{Case, policy, signed_as, signed_by};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const OLD: Lifetime = Lifetime {
    made: "20200101T000000",
    ends: "1d",
};

/// One row of the table: a policy, an image, and a word of the reason; `None`: accepted.
type Row<'a> = (&'a str, Value, &'a str, Option<&'a str>);

/// What, the key's algorithm, options for making it, options for signing, why it is refused here.
type OldKey<'a> = (
    &'a str,
    &'a str,
    &'a [&'a str],
    &'a [&'a str],
    Option<&'a str>,
);
/// What the scopes of the transport say, of which image, whether it is accepted.
type Scoped<'a> = (Vec<(String, &'a str)>, &'a String, bool);

async fn agree(case: &Case, table: &[Row<'_>]) {
    for (what, requirements, name, reason) in table {
        case.set_policy(&policy(requirements));
        let (theirs, ours) = (case.skopeo(name), case.pull(name).await);
        let row = format!("{what} {name}:\nskopeo: {theirs:?}\ncricket: {ours:?}");
        assert_eq!(theirs.is_ok(), ours.is_ok(), "no agreement: {row}");
        assert_eq!(ours.is_ok(), reason.is_none(), "{row}");
        if let (Err(theirs), Err(ours), Some(reason)) = (theirs, ours, reason) {
            // both by their policy, not by an accident on the way
            assert!(theirs.contains("Source image rejected"), "{row}");
            assert!(
                ours.starts_with("SignatureValidationFailed: image "),
                "{row}"
            );
            assert!(
                ours.contains("scope transports.docker \"127.0.0.1:5000\""),
                "{row}"
            );
            assert!(ours.contains(reason), "{row}");
        }
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn verdicts_on_keys_and_signatures_agree_with_skopeo_s() {
    let mut case = Case::start(CRICKET, "").await;
    let (good, good_file) = case.key("good", "rsa2048", FOREVER);
    let (other, other_file) = case.key("other", "ed25519", FOREVER);
    let (old, old_file) = case.key("old", "ed25519", OLD);
    let (revoked, _) = case.key("revoked", "ed25519", FOREVER);
    let names = [
        "signed", "unsigned", "twice", "both", "old", "revoked", "moved", "spoiled",
    ];
    let images: Vec<(String, String)> = names.map(|tag| case.push("app", tag)).into();
    let [
        signed,
        unsigned,
        twice,
        both,
        aged,
        taken_back,
        moved,
        spoiled,
    ] = &images[..]
    else {
        panic!("as many as names");
    };
    let at = |image: &(String, String)| image.1.clone();
    let sign = |key: &str, image: &(String, String)| {
        let signature = case.gpg.sign_image(key, &image.0, &image.1, "");
        case.put("app", &image.1, &signature);
    };
    sign(&good, signed);
    sign(&other, twice);
    sign(&good, twice);
    sign(&other, both);
    sign(&good, both);
    let signature = case
        .gpg
        .sign_image(&old, &aged.0, &at(aged), "20200101T120000");
    case.put("app", &at(aged), &signature);
    sign(&revoked, taken_back);
    case.gpg.revoke(&revoked);
    let revoked_file = case.gpg.export(&revoked, &case.keys, true);
    let revoked_file = revoked_file.display().to_string();
    // a good signature, but of another image's manifest
    let signature = case.gpg.sign_image(&good, &moved.0, &at(signed), "");
    case.put("app", &at(moved), &signature);
    let mut broken = case.gpg.sign_image(&good, &spoiled.0, &at(spoiled), "");
    let middle = broken.len() / 2;
    broken[middle] ^= 0x40;
    case.put("app", &at(spoiled), &broken);
    let key_data = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(fs::read(&good_file).unwrap())
    };
    let paths =
        json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": [other_file, good_file]}]);
    let data = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyData": key_data}]);
    // several armored blocks in one file, as people join them
    let ring = case.keys.join("ring.asc");
    let armored = case.gpg.export(&good, &case.node.dir().join("logs"), true);
    let joined = [fs::read(&other_file).unwrap(), fs::read(armored).unwrap()].concat();
    fs::write(&ring, joined).unwrap();
    let ring = signed_by(&ring.display().to_string());
    let of = |key: &str| signed_by(key)[0].clone();
    let two = json!([of(&good_file), of(&other_file)]);
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let base_layer =
        json!([{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}]);
    let reserved =
        json!([{"type": "signedBy", "keyType": "X509Certificates", "keyPath": good_file}]);
    let by = signed_by(&good_file);
    let missing = signed_by("/nonexistent/key.gpg");
    agree(
        &case,
        &[
            ("good", by.clone(), &signed.0, None),
            ("paths", paths, &signed.0, None),
            ("data", data, &signed.0, None),
            ("ring", ring, &signed.0, None),
            ("any of two", by.clone(), &twice.0, None),
            ("two keys", two.clone(), &both.0, None),
            (
                "two keys",
                two,
                &signed.0,
                Some("which the policy does not trust"),
            ),
            (
                "none",
                by.clone(),
                &unsigned.0,
                Some("a signature is required, but the image has none"),
            ),
            (
                "other",
                signed_by(&other_file),
                &signed.0,
                Some("which the policy does not trust"),
            ),
            (
                "expired",
                signed_by(&old_file),
                &aged.0,
                Some("is not valid today"),
            ),
            (
                "revoked",
                signed_by(&revoked_file),
                &taken_back.0,
                Some("revoked"),
            ),
            (
                "moved",
                by.clone(),
                &moved.0,
                Some("but over manifest sha256:"),
            ),
            ("spoiled", by, &spoiled.0, Some("signature-1: ")),
            (
                "no key",
                missing,
                &signed.0,
                Some("key file /nonexistent/key.gpg: "),
            ),
            (
                "reserved",
                reserved,
                &signed.0,
                Some("keyType X509Certificates is not implemented"),
            ),
            ("accept", accept, &unsigned.0, None),
            (
                "reject",
                json!([{"type": "reject"}]),
                &signed.0,
                Some("every image is rejected"),
            ),
            (
                "base layer",
                base_layer,
                &signed.0,
                Some("signedBaseLayer cannot be checked"),
            ),
        ],
    )
    .await;
    case.finish().await;
}

#[tokio::test]
async fn old_keys_agree_with_skopeo_s_and_what_gpg_still_takes_is_refused_by_name() {
    let mut case = Case::start(CRICKET, "").await;
    let sha1 = ["--cert-digest-algo", "SHA1"];
    let table: [OldKey<'_>; 6] = [
        ("rsa", "rsa2048", &[], &[], None),
        ("dsa", "dsa2048", &[], &[], None),
        // keys of gpg 2.0 say with SHA-1 what they say of themselves
        ("of gpg 2.0", "rsa2048", &sha1, &[], None),
        (
            "sha1",
            "rsa2048",
            &[],
            &["--digest-algo", "SHA1"],
            Some("SHA1 is not considered secure"),
        ),
        (
            "ripemd",
            "rsa2048",
            &[],
            &["--digest-algo", "RIPEMD160"],
            Some("RipeMD160 is not considered secure"),
        ),
        (
            "short",
            "rsa1024",
            &[],
            &[],
            Some("RSA1024 is not considered secure"),
        ),
    ];
    for (index, (what, algorithm, making, signing, refused)) in table.into_iter().enumerate() {
        let key = case
            .gpg
            .make_with(&format!("k{index}"), algorithm, FOREVER, making);
        let file = case.gpg.export(&key, &case.keys, true);
        let (name, digest) = case.push("app", &format!("{index}"));
        let text = gpg::payload(&name, &digest);
        let signature = case.gpg.sign(&key, text.as_bytes(), "", signing);
        case.put("app", &digest, &signature);
        case.set_policy(&policy(&signed_by(&file.display().to_string())));
        case.skopeo(&name).unwrap();
        match (case.pull(&name).await, refused) {
            (Ok(()), None) => {}
            (Err(error), Some(why)) => assert!(error.contains(why), "{what}: {error}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    case.finish().await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn verdicts_on_identities_agree_with_skopeo_s() {
    let mut case = Case::start(CRICKET, "").await;
    let (good, file) = case.key("good", "ed25519", FOREVER);
    let (name, digest) = case.push("team/app", "1");
    let (other, other_digest) = case.push("team/app", "2");
    let (foreign, foreign_digest) = case.push("mirror/app", "1");
    let by_digest = format!("127.0.0.1:5000/team/app@{digest}");
    let sign = |as_name: &str, repository: &str, digest: &str| {
        let signature = case.gpg.sign_image(&good, as_name, digest, "");
        case.put(repository, digest, &signature);
    };
    sign(&name, "team/app", &digest);
    sign(&name, "team/app", &other_digest);
    sign("example.org/vendor/app:1", "mirror/app", &foreign_digest);
    let kind = |kind: &str| signed_as(&file, json!({"type": kind}));
    let exact = |reference: &str| {
        signed_as(
            &file,
            json!({"type": "exactReference", "dockerReference": reference}),
        )
    };
    let repository = |name: &str| {
        signed_as(
            &file,
            json!({"type": "exactRepository", "dockerRepository": name}),
        )
    };
    let remap = |prefix: &str, signed: &str| {
        let identity = json!({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed});
        signed_as(&file, identity)
    };
    let elsewhere = Some("it is for \"127.0.0.1:5000/team/app:1\"");
    let vendor = Some("it is for \"example.org/vendor/app:1\"");
    agree(
        &case,
        &[
            ("default", signed_by(&file), &name, None),
            ("default", signed_by(&file), &other, elsewhere),
            ("default", signed_by(&file), &by_digest, None),
            ("default", signed_by(&file), &foreign, vendor),
            ("exact", kind("matchExact"), &name, None),
            ("exact", kind("matchExact"), &by_digest, elsewhere),
            ("digest", kind("matchRepoDigestOrExact"), &by_digest, None),
            ("repository", kind("matchRepository"), &other, None),
            ("repository", kind("matchRepository"), &foreign, vendor),
            (
                "reference",
                exact("example.org/vendor/app:1"),
                &foreign,
                None,
            ),
            (
                "reference",
                exact("example.org/vendor/app:2"),
                &foreign,
                vendor,
            ),
            (
                "exact repository",
                repository("example.org/vendor/app"),
                &foreign,
                None,
            ),
            (
                "exact repository",
                repository("example.org/vendor"),
                &foreign,
                vendor,
            ),
            (
                "remap",
                remap("127.0.0.1:5000/mirror", "example.org/vendor"),
                &foreign,
                None,
            ),
            (
                "remap",
                remap("127.0.0.1:5000/mir", "example.org/vendor"),
                &foreign,
                vendor,
            ),
            (
                "remap",
                remap("127.0.0.1:5000/mirror", "example.org"),
                &foreign,
                vendor,
            ),
        ],
    )
    .await;
    case.finish().await;
}

#[tokio::test]
async fn what_skopeo_signs_is_accepted_and_policy_test_explains_it() {
    let mut case = Case::start(CRICKET, "").await;
    let (good, file) = case.key("good", "rsa2048", FOREVER);
    let (name, digest) = case.push("app", "1");
    let signed = "127.0.0.1:5000/app:signed";
    case.set_policy(&json!({"default": [{"type": "insecureAcceptAnything"}]}));
    let mut skopeo = case.node.net().command(&tools::need("skopeo"));
    skopeo.env("GNUPGHOME", case.gpg.home());
    skopeo.arg("--policy").arg(case.node.daemon.policy_file());
    skopeo
        .arg("--registries.d")
        .arg(case.node.daemon.registries_d());
    skopeo.args([
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ]);
    skopeo.args(["--sign-by", &good]);
    tools::run(skopeo.args([format!("docker://{name}"), format!("docker://{signed}")]));
    case.set_policy(&policy(&signed_by(&file)));
    case.pull(signed).await.unwrap();
    // the same manifest by its first name: the signature is for the other
    let error = case.pull(&name).await.unwrap_err();
    assert!(
        error.contains("it is for \"127.0.0.1:5000/app:signed\""),
        "{error}"
    );

    let test = |image: &str| {
        let mut command = case.node.daemon.command();
        let output = tools::output(command.args(["policy", "test", image]));
        let out = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            out,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, out, _) = test(signed);
    assert_eq!(code, Some(0), "{out}");
    for line in [
        format!("{signed}: accepted\n"),
        format!("manifest     {digest}\n"),
        format!(
            "policy       {}\n",
            case.node.daemon.policy_file().display()
        ),
        "scope        transports.docker \"127.0.0.1:5000\"\n".to_owned(),
        format!("requirement  signedBy (keyPath {file}, matchRepoDigestOrExact)\n"),
        format!("    accepted: signature by key {good}\n"),
    ] {
        assert!(out.contains(&line), "{line:?} in {out}");
    }
    let (code, out, _) = test(&name);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.starts_with(&format!("{name}: refused\n")), "{out}");
    assert!(
        out.contains("/signature-1\n    refused: a good signature by key "),
        "{out}"
    );
    let (code, out, _) = test("quay.io/x:1");
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("scope        default\nrequirement  reject\n"),
        "{out}"
    );
    let (code, out, error) = test("127.0.0.1:5000/absent:1");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("not found"), "{error}");
    assert_eq!(
        case.node.cri.images().await.unwrap(),
        [],
        "nothing is pulled"
    );
    case.finish().await;
}

#[tokio::test]
async fn the_scope_that_decides_is_the_one_that_skopeo_takes() {
    let mut case = Case::start(CRICKET, "").await;
    let (tag, digest) = case.push("team/app", "1");
    let by_digest = format!("127.0.0.1:5000/team/app@{digest}");
    let (accept, reject) = ("insecureAcceptAnything", "reject");
    let at = |rest: &str| format!("127.0.0.1:5000{rest}");
    let table: Vec<Scoped<'_>> = vec![
        (
            vec![(at("/team/app:1"), accept), (at("/team/app"), reject)],
            &tag,
            true,
        ),
        (
            vec![(at("/team/app:1"), accept), (at("/team/app"), reject)],
            &by_digest,
            false,
        ),
        (vec![(by_digest.clone(), accept)], &by_digest, true),
        (vec![(by_digest.clone(), accept)], &tag, false),
        (
            vec![(at("/team/app"), accept), (at("/team"), reject)],
            &tag,
            true,
        ),
        (vec![(at("/team"), accept), (at(""), reject)], &tag, true),
        (vec![(at("/tea"), accept)], &tag, false),
        (vec![(at("/team/"), accept)], &tag, false),
        (vec![(at(""), accept), (String::new(), reject)], &tag, true),
        (vec![(String::new(), accept)], &tag, true),
        (vec![("127.0.0.1".into(), accept)], &tag, false),
        (vec![("*.0.0.1".into(), accept)], &tag, true),
        (vec![("*.0.0.1:5000".into(), accept)], &tag, false),
        (vec![("*".into(), accept)], &tag, false),
        (vec![("*.127.0.0.1".into(), accept)], &tag, false),
        (
            vec![("*.0.1".into(), reject), ("*.0.0.1".into(), accept)],
            &tag,
            true,
        ),
        (
            vec![(at(""), reject), ("*.0.0.1".into(), accept)],
            &tag,
            false,
        ),
        (
            vec![("*.0.0.1".into(), accept), (String::new(), reject)],
            &tag,
            true,
        ),
        (Vec::new(), &tag, false),
    ];
    for (scopes, name, accepted) in table {
        let of = |(scope, kind): &(String, &str)| (scope.clone(), json!([{"type": kind}]));
        let docker: serde_json::Map<String, Value> = scopes.iter().map(of).collect();
        let rules = json!({"default": [{"type": "reject"}], "transports": {"docker": docker}});
        case.set_policy(&rules);
        let (theirs, ours) = (case.skopeo(name), case.pull(name).await);
        let row = format!("{scopes:?} {name}:\nskopeo: {theirs:?}\ncricket: {ours:?}");
        assert_eq!(
            (theirs.is_ok(), ours.is_ok()),
            (accepted, accepted),
            "{row}"
        );
    }
    case.finish().await;
}
