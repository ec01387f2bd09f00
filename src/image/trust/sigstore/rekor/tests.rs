use cricket_harness::sigstore::{self, Key};
use serde_json::{Value, json};

use super::*;

const TIME: i64 = 1_700_000_000;

struct Case {
    log: Key,
    signer: Key,
    payload: Vec<u8>,
    signature: String,
}

impl Case {
    fn new() -> Case {
        let signer = Key::new();
        let payload = b"payload".to_vec();
        let signature = sigstore::Signed::new(&signer, payload.clone());
        Case {
            log: Key::new(),
            signature: signature.annotations[sigstore::SIGNATURE].clone(),
            signer,
            payload,
        }
    }

    fn entry(&self) -> Value {
        sigstore::entry(&self.signer.public(), &self.signature, &self.payload)
    }

    /// Whether a promise about `entry` is one about this signature.
    fn verify(&self, promise: &str) -> Result<i64, String> {
        let log = PublicKey::from_pem(&self.log.public()).unwrap();
        let other = PublicKey::from_pem(&Key::new().public()).unwrap();
        let timestamp = Timestamp::verify(promise, &[other, log])?;
        let signer = PublicKey::from_pem(&self.signer.public()).unwrap();
        timestamp.is_of(Subject {
            signer: signer.spki(),
            signature: &pem::decode_base64(&self.signature).unwrap(),
            payload: &self.payload,
        })?;
        Ok(timestamp.integrated)
    }

    fn refused(&self, entry: &Value) -> String {
        let promise = sigstore::promise(&self.log, entry, json!(TIME));
        self.verify(&promise).expect_err(&promise)
    }
}

#[test]
fn an_entry_of_this_signature_counts() {
    let case = Case::new();
    let promise = sigstore::promise(&case.log, &case.entry(), json!(TIME));
    assert_eq!(case.verify(&promise), Ok(TIME));
    // canonical JSON takes both for the same number
    let written = promise.replace(&format!("{TIME}"), "17e8");
    assert_ne!(written, promise);
    assert_eq!(case.verify(&written), Ok(TIME));
}

#[test]
fn an_entry_of_anything_else_is_refused() {
    let case = Case::new();
    let other = Key::new();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut entry = case.entry();
        change(&mut entry);
        entry
    };
    let table = [
        (
            sigstore::entry(&other.public(), &case.signature, &case.payload),
            "another public key",
        ),
        (
            sigstore::entry(&case.signer.public(), "AAAA", &case.payload),
            "another signature",
        ),
        (
            sigstore::entry(&case.signer.public(), &case.signature, b"other"),
            "another payload",
        ),
        (
            sigstore::entry("key", &case.signature, &case.payload),
            "public key is not PEM",
        ),
        (
            sigstore::entry(
                &format!("{}\n{}", case.signer.public(), other.public()),
                &case.signature,
                &case.payload,
            ),
            "data after its PEM block",
        ),
        (
            with(&|entry| entry["kind"] = json!("rekord")),
            "not a hashedrekord",
        ),
        (
            with(&|entry| entry["apiVersion"] = json!("0.0.2")),
            "not a hashedrekord",
        ),
        (
            with(&|entry| entry["spec"]["data"]["hash"]["algorithm"] = json!("sha512")),
            "is not sha256",
        ),
        (
            with(&|entry| entry["spec"]["data"]["hash"]["value"] = json!("zz")),
            "hash \"zz\"",
        ),
        (with(&|entry| entry["spec"] = json!({})), "missing field"),
        (json!("text"), "Rekor entry: "),
    ];
    for (entry, part) in table {
        let reason = case.refused(&entry);
        assert!(reason.contains(part), "{entry}: {reason}");
    }
}

#[test]
fn only_what_the_log_has_signed_is_looked_at() {
    let case = Case::new();
    let good = sigstore::promise(&case.log, &case.entry(), json!(TIME));
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&good).unwrap();
        change(&mut value);
        value.to_string()
    };
    let not_signed = "no Rekor key of the policy has signed it";
    let table = [
        (
            sigstore::promise(&Key::new(), &case.entry(), json!(TIME)),
            not_signed,
        ),
        (
            edited(&|value| value["Payload"]["integratedTime"] = json!(TIME + 1)),
            not_signed,
        ),
        (
            edited(&|value| value["Payload"]["logIndex"] = json!(8)),
            not_signed,
        ),
        (
            edited(&|value| value["Payload"]["logID"] = json!("x\n\"")),
            not_signed,
        ),
        (
            edited(&|value| value["Payload"]["body"] = json!("e30=")),
            not_signed,
        ),
        (
            edited(&|value| value["SignedEntryTimestamp"] = json!("")),
            not_signed,
        ),
        (
            edited(&|value| value["SignedEntryTimestamp"] = json!("?")),
            "Rekor SET: ",
        ),
        (
            edited(&|value| value["Payload"]["more"] = json!(1)),
            "unknown field",
        ),
        (edited(&|value| value["more"] = json!(1)), "unknown field"),
        (
            edited(&|value| value["Payload"]["logIndex"] = json!(1.5)),
            "whole number",
        ),
        (
            edited(&|value| value["Payload"]["logIndex"] = json!(1e300)),
            "whole number",
        ),
        (
            edited(&|value| value["Payload"] = Value::Null),
            "Rekor SET: ",
        ),
        (good.replacen("{", "{\"Payload\":{},", 1), "Rekor SET: "),
        (String::new(), "Rekor SET: "),
        ("[".repeat(10_000), "Rekor SET: "),
    ];
    for (promise, part) in table {
        let reason = case.verify(&promise).expect_err(&promise);
        assert!(reason.contains(part), "{reason}: {promise:.200}");
    }
}
