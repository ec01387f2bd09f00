//! What a simple signature signs: the JSON of containers-signature(5), read strictly.

use oci_spec::image::Digest;

use super::strict::{self, Fields};
use crate::image::reference::parse_sha256;

/// `critical.type` of a simple signature.
const TYPE: &str = "atomic container signature";

/// The facts that a signature states.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Name of the image, as its signer calls it.
    pub reference: String,
}

impl Payload {
    /// Reads what a verified signature signs.
    ///
    /// # Errors
    /// Says what is wrong, in words.
    pub fn parse(text: &[u8]) -> Result<Payload, String> {
        let mut fields = Fields::of(strict::parse(text)?, "payload")?;
        let mut critical = Fields::of(fields.value("critical")?, "critical")?;
        check_optional(Fields::of(fields.value("optional")?, "optional")?)?;
        fields.finish()?;
        let kind = critical.text("type")?;
        if kind != TYPE {
            return Err(format!("critical: type {kind:?} is not {TYPE:?}"));
        }
        let mut image = Fields::of(critical.value("image")?, "critical.image")?;
        let digest = image.text("docker-manifest-digest")?;
        image.finish()?;
        let mut identity = Fields::of(critical.value("identity")?, "critical.identity")?;
        let reference = identity.text("docker-reference")?;
        identity.finish()?;
        critical.finish()?;
        Ok(Payload {
            manifest_digest: parse_sha256(&digest)?,
            reference,
        })
    }
}

/// Unknown fields are allowed here, but the known ones have a type.
fn check_optional(mut fields: Fields) -> Result<(), String> {
    fields.text_if_given("creator")?;
    match fields.take("timestamp") {
        None => Ok(()),
        // 1.5e9 is an integer too
        Some(value) => match value.as_f64() {
            Some(number) if number.fract() == 0.0 => Ok(()),
            _ => Err("optional: field \"timestamp\" must be an integer".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"sha256:0000000000000000000000000000000000000000000000000000000000000001"},"identity":{"docker-reference":"r.io/a:1"}},"optional":{"creator":"gpg","timestamp":1700000000,"more":[1]}}"#;

    #[test]
    fn a_payload_is_read_and_each_deviation_is_an_error() {
        let payload = Payload::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(payload.reference, "r.io/a:1");
        let table = [
            (r#""optional":{"#, r#""optional":{"creator":"x","#),
            (
                r#","optional":{"creator":"gpg","timestamp":1700000000,"more":[1]}"#,
                "",
            ),
            ("1700000000", "1700000000.5"),
            ("1700000000", "\"now\""),
            (r#""creator":"gpg""#, r#""creator":1"#),
            (r#"{"critical""#, r#"{"extra":1,"critical""#),
            (r#""type":"atomic container signature","#, ""),
            ("atomic container", "cosign container image"),
            (r#"{"docker-reference""#, r#"{"tag":"1","docker-reference""#),
            ("\"r.io/a:1\"", "1"),
            ("sha256:0", "sha512:0"),
            ("sha256:0", "sha256:"),
            (r#""optional""#, r#""critical":{},"optional""#),
        ];
        for (from, to) in table {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD, "{from}");
            assert!(Payload::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "null", "[]", "{}", "\u{1}"] {
            assert!(Payload::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
