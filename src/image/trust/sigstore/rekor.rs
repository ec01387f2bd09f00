//! Rekor's promise that an entry is in its log (a "signed entry timestamp", SET), and whether the
//! entry is of this signature. It is checked offline, with the log's key from the policy.

use ring::digest;
use serde::{Deserialize, Deserializer};

use super::key::PublicKey;
use super::pem;

/// Whole numbers up to here are the same in canonical JSON, whose numbers are doubles.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// What an entry must be of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The signer's `SubjectPublicKeyInfo` or certificate, DER.
    pub signer: &'a [u8],
    /// The signature, decoded.
    pub signature: &'a [u8],
    /// What was signed.
    pub payload: &'a [u8],
}

/// The annotation's value (cosign's `bundle.RekorBundle`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bundle {
    #[serde(deserialize_with = "base64_text")]
    signed_entry_timestamp: Vec<u8>,
    payload: LogPayload,
}

/// What the log signs, as canonical JSON (RFC 8785): these four fields, sorted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LogPayload {
    body: String,
    #[serde(deserialize_with = "whole_number")]
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(deserialize_with = "whole_number")]
    log_index: i64,
}

impl LogPayload {
    /// serde_json escapes strings exactly as RFC 8785 wants it (3.2.2.2), and a whole number that a
    /// double holds is written plainly (3.2.2.3).
    fn canonical(&self) -> String {
        let LogPayload {
            body,
            integrated_time,
            log_id,
            log_index,
        } = self;
        let (body, log_id) = (
            serde_json::Value::from(body.as_str()),
            serde_json::Value::from(log_id.as_str()),
        );
        format!(
            r#"{{"body":{body},"integratedTime":{integrated_time},"logID":{log_id},"logIndex":{log_index}}}"#
        )
    }
}

/// An entry of type hashedrekord 0.0.1; what else the log writes is its own business.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    api_version: String,
    spec: serde_json::Value,
}

#[derive(Deserialize)]
struct HashedRekord {
    data: EntryData,
    signature: EntrySignature,
}

#[derive(Deserialize)]
struct EntryData {
    hash: EntryHash,
}

#[derive(Deserialize)]
struct EntryHash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntrySignature {
    #[serde(deserialize_with = "base64_text")]
    content: Vec<u8>,
    public_key: EntryKey,
}

#[derive(Deserialize)]
struct EntryKey {
    #[serde(deserialize_with = "base64_text")]
    content: Vec<u8>,
}

/// A SET that one of the policy's logs has signed.
#[derive(Debug)]
pub(super) struct Timestamp {
    /// When the log took the entry up, seconds since 1970.
    pub integrated: i64,
    body: Vec<u8>,
}

impl Timestamp {
    /// Verifies the annotation's value with the logs' keys.
    pub(super) fn verify(set: &str, logs: &[PublicKey]) -> Result<Timestamp, String> {
        let bundle: Bundle =
            serde_json::from_str(set).map_err(|error| format!("Rekor SET: {error}"))?;
        let canonical = bundle.payload.canonical();
        let timestamp = &bundle.signed_entry_timestamp;
        if !logs
            .iter()
            .any(|log| log.verifies(canonical.as_bytes(), timestamp))
        {
            return Err("Rekor SET: no Rekor key of the policy has signed it".to_owned());
        }
        let body = pem::decode_base64(&bundle.payload.body)
            .map_err(|error| format!("Rekor SET: body: {error}"))?;
        let integrated = bundle.payload.integrated_time;
        Ok(Timestamp { integrated, body })
    }

    /// Whether the entry is of `subject`.
    pub(super) fn is_of(&self, subject: Subject<'_>) -> Result<(), String> {
        let malformed = |error: serde_json::Error| format!("Rekor entry: {error}");
        let entry: Entry = serde_json::from_slice(&self.body).map_err(malformed)?;
        if (entry.kind.as_str(), entry.api_version.as_str()) != ("hashedrekord", "0.0.1") {
            let (kind, version) = (entry.kind, entry.api_version);
            return Err(format!(
                "Rekor entry: it is a {kind:?} {version:?}, not a hashedrekord 0.0.1"
            ));
        }
        let record: HashedRekord = serde_json::from_value(entry.spec).map_err(malformed)?;
        let signer = String::from_utf8(record.signature.public_key.content)
            .map_err(|_| "Rekor entry: its public key is not PEM")?;
        // the label is not compared: the log keeps keys and certificates under either
        if pem::decode_one(&signer, "Rekor entry: its public key")?.der != subject.signer {
            return Err("Rekor entry: it is of another public key".to_owned());
        }
        if record.signature.content != subject.signature {
            return Err("Rekor entry: it is of another signature".to_owned());
        }
        let EntryHash { algorithm, value } = record.data.hash;
        if algorithm != "sha256" {
            return Err(format!(
                "Rekor entry: hash algorithm {algorithm:?} is not sha256"
            ));
        }
        let payload = digest::digest(&digest::SHA256, subject.payload);
        match hex::decode(&value) {
            Ok(hash) if hash == payload.as_ref() => Ok(()),
            Ok(_) => Err("Rekor entry: it is of another payload".to_owned()),
            Err(error) => Err(format!("Rekor entry: hash {value:?}: {error}")),
        }
    }
}

fn base64_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    pem::decode_base64(&text).map_err(serde::de::Error::custom)
}

/// `1`, and `1.0` and `1e0`, which canonical JSON takes for the same.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let exact = number
        .as_f64()
        .filter(|value| value.fract() == 0.0 && value.abs() < MAX_EXACT);
    // below 2^53 the cast changes nothing
    #[allow(clippy::cast_possible_truncation)]
    exact
        .map(|value| value as i64)
        .ok_or_else(|| serde::de::Error::custom(format!("{number} is not a whole number")))
}

#[cfg(test)]
mod tests;
