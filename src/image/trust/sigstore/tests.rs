//! Whole decisions: a requirement, an image, its signatures.

use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cricket_harness::sigstore::{self, Authority, Key, Signed, Subject};
use serde_json::{Value, json};

use super::*;
use crate::image::reference::{Reference, parse_sha256};
use crate::image::trust::strict::{self, Fields};
use crate::image::trust::verdict::Found;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const NAME: &str = "registry.example/app:1";
const EMAIL: &str = "person@example.com";
const ISSUER: &str = "https://issuer.example";
/// 2023-11-14.
const TIME: i64 = 1_700_000_000;
const ALWAYS: (i32, i32) = (2000, 2120);

fn requirement(fields: &Value) -> SigstoreSigned {
    let value = strict::parse(fields.to_string().as_bytes()).unwrap();
    SigstoreSigned::parse(Fields::of(value, "requirement").unwrap()).unwrap()
}

fn evidence(signatures: Vec<Signed>) -> Evidence {
    let found = |(index, signed): (usize, Signed)| Found {
        place: format!("layer {index}"),
        signature: Signature::Sigstore(SigstoreSignature {
            media_type: sigstore::PAYLOAD.to_owned(),
            payload: signed.payload,
            annotations: signed.annotations,
        }),
    };
    Evidence {
        reference: Some(Reference::from_str(NAME).unwrap()),
        manifest_digest: parse_sha256(DIGEST).unwrap(),
        signatures: signatures.into_iter().enumerate().map(found).collect(),
        trouble: None,
    }
}

/// `Ok`, or the refusal's words.
fn verdict(fields: &Value, signatures: Vec<Signed>) -> Result<String, String> {
    let checked = requirement(fields).check(&evidence(signatures));
    checked
        .map(|accepted| accepted.by)
        .map_err(|refusal| refusal.to_string())
}

fn data(text: &str) -> String {
    STANDARD.encode(text)
}

fn good() -> Vec<u8> {
    sigstore::payload(NAME, DIGEST)
}

#[test]
fn one_signature_by_a_trusted_key_is_enough() {
    let (key, other) = (Key::new(), Key::new());
    let by_key = json!({"keyData": data(&key.public())});
    let by_either = json!({"keyDatas": [data(&other.public()), data(&key.public())]});
    let signed = Signed::new(&key, good());
    let stranger = Signed::new(&other, good());
    let by = verdict(&by_key, vec![stranger.clone(), signed.clone()]).unwrap();
    assert!(by.starts_with("signature by key "), "{by}");
    verdict(&by_either, vec![stranger.clone()]).unwrap();
    verdict(&by_either, vec![signed.clone()]).unwrap();

    let elsewhere = Signed::new(&key, sigstore::payload("registry.example/other:1", DIGEST));
    let another = DIGEST.replace('1', "2");
    let another = Signed::new(&key, sigstore::payload(NAME, &another));
    let swapped = Signed {
        payload: good(),
        ..another.clone()
    };
    let garbage = Signed::new(&key, b"{}".to_vec());
    let cut = Signed {
        annotations: BTreeMap::new(),
        ..signed.clone()
    };
    let table = [
        (vec![], "a signature is required, but the image has none"),
        (
            vec![stranger.clone()],
            "layer 0: signature: not made by the key that is trusted",
        ),
        (vec![elsewhere], "it is for \"registry.example/other:1\""),
        (vec![another], "but over manifest sha256:2222"),
        (vec![swapped], "not made by the key"),
        (vec![garbage], "what it signs is not understood"),
        (
            vec![cut],
            "annotation dev.cosignproject.cosign/signature is missing",
        ),
        (
            vec![signed.clone().with(sigstore::SIGNATURE, "?")],
            "signature: ",
        ),
        (
            vec![stranger.clone(), stranger],
            "none of its signatures is accepted: layer 0: ",
        ),
    ];
    for (signatures, part) in table {
        let reason = verdict(&by_key, signatures).unwrap_err();
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[test]
fn other_attachments_are_no_signatures() {
    let key = Key::new();
    let mut evidence = evidence(vec![Signed::new(&key, good())]);
    let requirement = requirement(&json!({"keyData": data(&key.public())}));
    requirement.check(&evidence).unwrap();
    let Signature::Sigstore(attachment) = &mut evidence.signatures[0].signature else {
        panic!("it is one");
    };
    attachment.media_type = "application/vnd.dsse.envelope.v1+json".to_owned();
    let refusal = requirement.check(&evidence).unwrap_err();
    assert_eq!(refusal.signatures, []);
}

#[test]
fn a_key_that_cannot_be_read_refuses_and_says_which() {
    let key = Key::new();
    let signed = || vec![Signed::new(&key, good())];
    let dir = tempfile::tempdir().unwrap();
    let file = key.write(&dir.path().join("key.pub"));
    let missing = dir.path().join("missing.pub");
    verdict(&json!({"keyPath": file}), signed()).unwrap();
    let table = [
        (json!({"keyPath": missing}), "missing.pub does not exist"),
        // one bad key spoils the good one, as in containers/image
        (
            json!({"keyPaths": [file, missing]}),
            "missing.pub does not exist",
        ),
        (
            json!({"keyData": data("x")}),
            "data in the policy: not a public key in PEM",
        ),
        (
            json!({"keyPath": file, "rekorPublicKeyData": data("x")}),
            "not a public key",
        ),
    ];
    for (fields, part) in table {
        let reason = verdict(&fields, signed()).unwrap_err();
        assert!(reason.contains(part), "{part}: {reason}");
    }
    // nobody has signed: that is what is told
    let reason = verdict(&json!({"keyPath": missing}), vec![]).unwrap_err();
    assert!(reason.contains("the image has none"), "{reason}");
}

#[test]
fn with_rekors_key_a_signature_must_be_in_its_log() {
    let (key, other, log) = (Key::new(), Key::new(), Key::new());
    let fields = json!({
        "keyDatas": [data(&other.public()), data(&key.public())],
        "rekorPublicKeyData": data(&log.public()),
    });
    let signed = || Signed::new(&key, good());
    verdict(&fields, vec![signed().logged(&log, &key.public(), TIME)]).unwrap();
    let of_other = Signed::new(&other, good()).logged(&log, &other.public(), TIME);
    let borrowed = signed().with(
        sigstore::BUNDLE,
        of_other.annotations[sigstore::BUNDLE].clone(),
    );
    let table = [
        (signed(), "annotation dev.sigstore.cosign/bundle is missing"),
        (
            signed().logged(&other, &key.public(), TIME),
            "no Rekor key of the policy",
        ),
        (
            signed().logged(&log, &Key::new().public(), TIME),
            "another public key",
        ),
        (borrowed, "Rekor entry: it is of another"),
        (signed().with(sigstore::BUNDLE, "{}"), "Rekor SET: "),
    ];
    for (signed, part) in table {
        let reason = verdict(&fields, vec![signed]).unwrap_err();
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

struct World {
    root: Authority,
    between: Authority,
    log: Key,
    key: Key,
}

impl World {
    fn new() -> World {
        let root = Authority::root("root", ALWAYS);
        World {
            between: root.below("between", ALWAYS),
            root,
            log: Key::new(),
            key: Key::new(),
        }
    }

    fn fulcio(&self) -> Value {
        json!({
            "fulcio": {"caData": data(&self.root.pem), "oidcIssuer": ISSUER, "subjectEmail": EMAIL},
            "rekorPublicKeyData": data(&self.log.public()),
        })
    }

    fn signed(&self, certificate: &str) -> Signed {
        let chain = [self.between.pem.as_str(), self.root.pem.as_str()];
        Signed::new(&self.key, good()).certified(certificate, &chain)
    }

    fn logged(&self, certificate: &str, time: i64) -> Signed {
        self.signed(certificate)
            .logged(&self.log, certificate, time)
    }
}

#[test]
fn fulcios_certificate_counts_at_the_time_of_the_log() {
    let world = World::new();
    let mut subject = Subject::fulcio(EMAIL, ISSUER);
    subject.years = (2023, 2024);
    let certificate = world.between.certify(&world.key, &subject);
    let by = verdict(&world.fulcio(), vec![world.logged(&certificate, TIME)]);
    assert_eq!(by, Ok(format!("signature by {EMAIL} of {ISSUER}")));

    let issue = |change: &dyn Fn(&mut Subject)| {
        let mut changed = subject.clone();
        change(&mut changed);
        world.between.certify(&world.key, &changed)
    };
    let strangers = Authority::root("root", ALWAYS).certify(&world.key, &subject);
    let others_key = world.between.certify(&Key::new(), &subject);
    let other_email = Subject::fulcio("other@example.com", ISSUER);
    let unlogged = world.signed(&certificate);
    let bare = Signed::new(&world.key, good()).logged(&world.log, &certificate, TIME);
    let table = [
        (
            world.logged(&certificate, TIME + 400 * 86400),
            "not at 2024-12-18",
        ),
        (world.logged(&certificate, 0), "not at 1970-01-01"),
        (world.logged(&certificate, -1), "before 1970"),
        (world.logged(&issue(&|it| it.issuers.0 = None), TIME), ""),
        (
            world.logged(&issue(&|it| it.issuers = (None, None)), TIME),
            "no OIDC issuer",
        ),
        (
            world.logged(&issue(&|it| it.issuers = (Some("x".into()), None)), TIME),
            "OIDC issuer \"https://issuer.example\" is required, it names \"x\"",
        ),
        (
            world.logged(&issue(&|it| it.names.clone_from(&other_email.names)), TIME),
            "e-mail \"person@example.com\" is required, it is for [\"other@example.com\"]",
        ),
        (
            world.logged(&issue(&|it| it.for_code = false), TIME),
            "not for signing code",
        ),
        (world.logged(&strangers, TIME), "certificate: "),
        (
            world.logged(&others_key, TIME),
            "signature: not made by the key",
        ),
        (
            unlogged.clone(),
            "annotation dev.sigstore.cosign/bundle is missing",
        ),
        (
            unlogged.logged(&world.log, &others_key, TIME),
            "another public key",
        ),
        (
            bare.clone(),
            "annotation dev.sigstore.cosign/certificate is missing",
        ),
        (
            bare.with(sigstore::CERTIFICATE, certificate.clone()),
            "no authority of the policy",
        ),
    ];
    for (signed, part) in table {
        let verdict = verdict(&world.fulcio(), vec![signed]);
        match part {
            "" => drop(verdict.unwrap()),
            part => {
                let reason = verdict.unwrap_err();
                assert!(reason.contains(part), "{part}: {reason}");
            }
        }
    }
}

#[test]
fn another_authoritys_certificate_counts_now() {
    let world = World::new();
    let mut subject = Subject::fulcio(EMAIL, ISSUER);
    subject.names.push(sigstore::dns("build.example"));
    let pki = |names: Value| {
        let mut fields = json!({"caRootsData": data(&world.root.pem)});
        for (name, value) in names.as_object().unwrap() {
            fields[name] = value.clone();
        }
        json!({ "pki": fields })
    };
    let certificate = world.between.certify(&world.key, &subject);
    let signed = || world.signed(&certificate);
    for names in [
        json!({"subjectEmail": EMAIL}),
        json!({"subjectHostname": "build.example"}),
        json!({"subjectEmail": EMAIL, "subjectHostname": "build.example"}),
    ] {
        verdict(&pki(names), vec![signed()]).unwrap();
    }
    let alone = Signed::new(&world.key, good()).certified(&certificate, &[]);
    let with_between =
        json!({"subjectEmail": EMAIL, "caIntermediatesData": data(&world.between.pem)});
    verdict(&pki(with_between), vec![alone.clone()]).unwrap();
    subject.years = (2020, 2024);
    let expired = world.between.certify(&world.key, &subject);
    let names = json!({"subjectEmail": EMAIL});
    let table = [
        (
            json!({"subjectEmail": "other@example.com"}),
            signed(),
            "e-mail",
        ),
        (
            json!({"subjectHostname": "other.example"}),
            signed(),
            "host name \"other.example\"",
        ),
        (
            json!({"subjectEmail": EMAIL, "subjectHostname": "other.example"}),
            signed(),
            "host name",
        ),
        (names.clone(), alone, "no authority of the policy"),
        // a log's time is nothing to it
        (
            names.clone(),
            world.logged(&expired, TIME),
            "valid from 2020",
        ),
        (
            names,
            Signed::new(&world.key, good()),
            "certificate is missing",
        ),
    ];
    for (names, signed, part) in table {
        let reason = verdict(&pki(names), vec![signed]).unwrap_err();
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[test]
fn a_requirement_is_told_with_its_keys_and_identity() {
    let table = [
        (json!({"keyPath": "/k"}), "sigstoreSigned (key /k, "),
        (
            json!({"keyDatas": ["YQ==", "Yg=="], "rekorPublicKeyPath": "/r"}),
            "sigstoreSigned (key data in the policy data in the policy, rekor /r, ",
        ),
        (
            World::new().fulcio(),
            "sigstoreSigned (fulcio data in the policy, person@example.com of https://issuer.example, rekor ",
        ),
        (
            json!({"pki": {"caRootsPath": "/c", "subjectHostname": "h"}}),
            "sigstoreSigned (pki /c, h, ",
        ),
    ];
    for (fields, start) in table {
        let text = requirement(&fields).to_string();
        assert!(text.starts_with(start), "{text}");
    }
}
