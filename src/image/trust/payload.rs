//! What a signature signs: the JSON of containers-signature(5), which cosign has taken over with a
//! type of its own, read strictly.

use oci_spec::image::Digest;
use serde_json::Value;

use super::strict::{self, Fields};
use crate::image::reference::parse_sha256;

/// Whose payload it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of a simple signature.
    Simple,
    /// Of a sigstore signature.
    Sigstore,
}

impl Kind {
    /// `critical.type`.
    fn name(self) -> &'static str {
        match self {
            Kind::Simple => "atomic container signature",
            Kind::Sigstore => "cosign container image signature",
        }
    }
}

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
    pub fn parse(text: &[u8], wanted: Kind) -> Result<Payload, String> {
        let mut fields = Fields::of(strict::parse(text)?, "payload")?;
        let mut critical = Fields::of(fields.value("critical")?, "critical")?;
        match fields.value("optional")? {
            // cosign's, where its user has given no annotations
            Value::Null if wanted == Kind::Sigstore => {}
            optional => check_optional(Fields::of(optional, "optional")?)?,
        }
        fields.finish()?;
        let kind = critical.text("type")?;
        if kind != wanted.name() {
            let wanted = wanted.name();
            return Err(format!("critical: type {kind:?} is not {wanted:?}"));
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
        let payload = Payload::parse(GOOD.as_bytes(), Kind::Simple).unwrap();
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
            assert!(
                Payload::parse(bad.as_bytes(), Kind::Simple).is_err(),
                "{bad}"
            );
        }
        for bad in ["", "null", "[]", "{}", "\u{1}"] {
            assert!(
                Payload::parse(bad.as_bytes(), Kind::Simple).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn cosigns_payload_has_its_own_type_and_may_lack_annotations() {
        let cosigns = GOOD.replace("atomic container", "cosign container image");
        let parse = |text: &str| Payload::parse(text.as_bytes(), Kind::Sigstore);
        let want = parse(&cosigns).unwrap();
        assert_eq!(want.reference, "r.io/a:1");
        let start = cosigns.find(r#""optional""#).unwrap();
        let without = &cosigns[..start];
        assert_eq!(parse(&format!("{without}\"optional\":null}}")), Ok(want));
        for bad in ["\"optional\":[]}", "\"optional\":1}"] {
            parse(&format!("{without}{bad}")).expect_err(bad);
        }
        parse(GOOD).unwrap_err();
        let simple = format!(
            "{}\"optional\":null}}",
            &GOOD[..GOOD.find(r#""optional""#).unwrap()]
        );
        Payload::parse(simple.as_bytes(), Kind::Simple).unwrap_err();
    }
}
