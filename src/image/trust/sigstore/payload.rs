//! What a cosign signature signs: a JSON document that names an image.
//!
//! It is read as strictly as containers/image reads it: a field more, less or twice is refused,
//! because another reader might understand another image.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::image::reference::parse_sha256;
use crate::image::trust::policy::Unique;

/// The only `critical.type`.
const TYPE: &str = "cosign container image signature";

/// The image that a payload names. To be believed only if its signature is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// Its name, as the signer wrote it.
    pub reference: String,
    /// Its manifest's digest, `sha256:…`.
    pub digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    /// The key must be there; cosign writes null where there are no annotations.
    #[serde(deserialize_with = "Option::deserialize")]
    optional: Option<Unique<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    r#type: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

impl Payload {
    /// Reads a payload.
    pub(super) fn parse(bytes: &[u8]) -> Result<Payload, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("payload: {error}"))?;
        let Critical {
            r#type,
            image,
            identity,
        } = document.critical;
        if r#type != TYPE {
            return Err(format!("payload: its type is {type:?}, not {TYPE:?}"));
        }
        check_optional(&document.optional.map(|fields| fields.0).unwrap_or_default())?;
        let digest = image.docker_manifest_digest;
        parse_sha256(&digest).map_err(|reason| format!("payload: digest {digest:?}: {reason}"))?;
        let reference = identity.docker_reference;
        Ok(Payload { reference, digest })
    }
}

/// Two fields have a type; the rest is the signer's.
fn check_optional(fields: &BTreeMap<String, Value>) -> Result<(), String> {
    match fields.get("creator") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(other) => return Err(format!("payload: creator {other} is not a string")),
    }
    match fields.get("timestamp") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Number(number)) if is_whole(number) => Ok(()),
        Some(other) => Err(format!("payload: timestamp {other} is not a whole number")),
    }
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.as_f64().is_some_and(|value| value.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789012345678901234567890123456789012345678901234567890123";

    fn document(optional: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"a.io/b:1"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":{optional}}}"#
        )
    }

    #[test]
    fn the_documents_of_cosign_and_skopeo_are_read() {
        let want = Payload {
            reference: "a.io/b:1".into(),
            digest: DIGEST.into(),
        };
        for optional in [
            "null",
            "{}",
            r#"{"creator":"containers/image 5.21","timestamp":1660000000}"#,
            r#"{"creator":null,"timestamp":1.66e9,"any":{"thing":[1]}}"#,
        ] {
            let parsed = Payload::parse(document(optional).as_bytes());
            assert_eq!(parsed.as_ref(), Ok(&want), "{optional}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = document("null");
        let table = [
            "null".to_owned(),
            "[]".into(),
            format!("{good}{good}"),
            good.replace(",\"optional\":null", ""),
            good.replace("\"optional\":null", "\"optional\":null,\"optional\":null"),
            good.replace("\"optional\":null", "\"optional\":null,\"more\":1"),
            good.replace("\"optional\":null", "\"optional\":[]"),
            good.replace("\"optional\":null", r#""optional":{"a":1,"a":2}"#),
            good.replace("\"optional\":null", r#""optional":{"creator":1}"#),
            good.replace("\"optional\":null", r#""optional":{"timestamp":1.5}"#),
            good.replace("\"optional\":null", r#""optional":{"timestamp":"1"}"#),
            good.replace("cosign container", "atomic container"),
            good.replace("\"type\"", "\"Type\""),
            good.replace("sha256:0", "sha512:0"),
            good.replace("sha256:0", "sha256:Z"),
            good.replace("\"a.io/b:1\"", "1"),
            good.replace("\"a.io/b:1\"", r#""a.io/b:1","docker-reference":"a.io/b:2""#),
            good.replace("{\"docker-manifest", "{\"x\":1,\"docker-manifest"),
        ];
        Payload::parse(good.as_bytes()).unwrap();
        for text in table {
            let reason = Payload::parse(text.as_bytes()).expect_err(&text);
            assert!(reason.starts_with("payload: "), "{reason}");
        }
    }
}
