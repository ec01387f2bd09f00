//! `signedIdentity`: which name in a signature fits which name of an image
//! (containers-policy.json(5), "signedBy").

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::strict::Fields;
use crate::image::reference::Reference;

/// How the name in a signature must relate to the name that the user wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SignedIdentity {
    /// The same, with tag or digest.
    MatchExact,
    /// As above; for an image by digest its repository is enough. The default.
    #[default]
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This reference, whatever the image's own is.
    ExactReference(Reference),
    /// This repository, whatever the image's own is.
    ExactRepository(Reference),
    /// Like the default, after `prefix` of the image's name is replaced by `signed_prefix`.
    RemapIdentity {
        /// What the image's name begins with, up to its end or a slash.
        prefix: String,
        /// What it begins with in the signature.
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Reads the field of a requirement; not given, it is the default.
    ///
    /// # Errors
    /// Says what is wrong, in words.
    pub fn parse(given: Option<Value>) -> Result<SignedIdentity, String> {
        let Some(value) = given else {
            return Ok(SignedIdentity::default());
        };
        let mut fields = Fields::of(value, "signedIdentity")?;
        let identity = match fields.text("type")?.as_str() {
            "matchExact" => SignedIdentity::MatchExact,
            "matchRepoDigestOrExact" => SignedIdentity::MatchRepoDigestOrExact,
            "matchRepository" => SignedIdentity::MatchRepository,
            "exactReference" => {
                let text = fields.text("dockerReference")?;
                let reference = named("dockerReference", &text)?;
                if is_name_only(&reference) {
                    return Err(format!(
                        "signedIdentity: dockerReference {text:?} has neither a tag nor a digest"
                    ));
                }
                SignedIdentity::ExactReference(reference)
            }
            "exactRepository" => {
                let text = fields.text("dockerRepository")?;
                SignedIdentity::ExactRepository(named("dockerRepository", &text)?)
            }
            "remapIdentity" => SignedIdentity::RemapIdentity {
                prefix: prefix("prefix", fields.text("prefix")?)?,
                signed_prefix: prefix("signedPrefix", fields.text("signedPrefix")?)?,
            },
            unknown => return Err(format!("signedIdentity: type {unknown:?} is unknown")),
        };
        fields.finish()?;
        Ok(identity)
    }

    /// Whether a signature for the name `signed` counts for the image that the user named
    /// `intended`. Tags are never added to what was signed.
    ///
    /// # Errors
    /// Says in what the two differ.
    pub fn check(&self, intended: Option<&Reference>, signed: &str) -> Result<(), String> {
        let refuse = |wanted: &dyn fmt::Display| {
            Err(format!("it is for {signed:?}, but {self} wants {wanted}"))
        };
        let Ok(signed_reference) = Reference::from_str(signed) else {
            return Err(format!(
                "it is for {signed:?}, which is not an image's name"
            ));
        };
        let signed_reference = &signed_reference;
        match (self, intended.map(full)) {
            (SignedIdentity::ExactReference(wanted), _) => {
                match !is_name_only(signed_reference) && same(signed_reference, wanted) {
                    true => Ok(()),
                    false => refuse(wanted),
                }
            }
            (SignedIdentity::ExactRepository(wanted), _) => {
                match signed_reference.name() == wanted.name() {
                    true => Ok(()),
                    false => refuse(&wanted.name()),
                }
            }
            (_, None) => Err(format!(
                "it is for {signed:?}, but the image has no name that it could be for"
            )),
            (SignedIdentity::MatchExact, Some(intended)) => {
                match !is_name_only(signed_reference) && same(signed_reference, &intended) {
                    true => Ok(()),
                    false => refuse(&intended),
                }
            }
            (SignedIdentity::MatchRepoDigestOrExact, Some(intended)) => {
                match repo_digest_or_exact(&intended, signed_reference) {
                    true => Ok(()),
                    false => refuse(&intended),
                }
            }
            (SignedIdentity::MatchRepository, Some(intended)) => {
                match signed_reference.name() == intended.name() {
                    true => Ok(()),
                    false => refuse(&intended.name()),
                }
            }
            (
                SignedIdentity::RemapIdentity {
                    prefix,
                    signed_prefix,
                },
                Some(intended),
            ) => {
                let remapped = remap(&intended, prefix, signed_prefix)?;
                match repo_digest_or_exact(&remapped, signed_reference) {
                    true => Ok(()),
                    false => refuse(&remapped),
                }
            }
        }
    }
}

impl fmt::Display for SignedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignedIdentity::MatchExact => f.write_str("matchExact"),
            SignedIdentity::MatchRepoDigestOrExact => f.write_str("matchRepoDigestOrExact"),
            SignedIdentity::MatchRepository => f.write_str("matchRepository"),
            SignedIdentity::ExactReference(wanted) => write!(f, "exactReference {wanted}"),
            SignedIdentity::ExactRepository(wanted) => {
                write!(f, "exactRepository {}", wanted.name())
            }
            SignedIdentity::RemapIdentity {
                prefix,
                signed_prefix,
            } => write!(f, "remapIdentity {prefix} to {signed_prefix}"),
        }
    }
}

/// What the user meant: `latest` where nothing was said, and a digest wins over a tag beside it.
fn full(reference: &Reference) -> Reference {
    let mut full = reference.clone().or_latest();
    if full.digest.is_some() {
        full.tag = None;
    }
    full
}

fn is_name_only(reference: &Reference) -> bool {
    reference.tag.is_none() && reference.digest.is_none()
}

fn same(one: &Reference, other: &Reference) -> bool {
    one.to_string() == other.to_string()
}

/// An image by digest need not say which tag was signed: the digest is checked elsewhere.
fn repo_digest_or_exact(intended: &Reference, signed: &Reference) -> bool {
    if is_name_only(signed) {
        return false;
    }
    match intended.tag {
        Some(_) => same(signed, intended),
        None => intended.digest.is_some() && signed.name() == intended.name(),
    }
}

fn remap(intended: &Reference, prefix: &str, signed_prefix: &str) -> Result<Reference, String> {
    let text = intended.to_string();
    let name = intended.name();
    let rest = name.strip_prefix(prefix);
    if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(intended.clone());
    }
    let remapped = format!("{signed_prefix}{}", &text[prefix.len()..]);
    let parsed = Reference::from_str(&remapped).ok();
    // containers/image wants the result in its full form: no hub is implied here
    parsed
        .filter(|parsed| parsed.to_string() == remapped)
        .ok_or_else(|| {
            format!("remapIdentity makes {remapped:?} of {text}, which is not a full name")
        })
}

fn named(field: &str, text: &str) -> Result<Reference, String> {
    Reference::from_str(text).map_err(|error| format!("signedIdentity: {field}: {error}"))
}

/// A registry, with a path perhaps.
fn prefix(field: &str, text: String) -> Result<String, String> {
    let below = match text.contains('/') {
        true => text.clone(),
        // a registry alone: by itself it would be read as a path
        false => format!("{text}/x"),
    };
    let host = below.split('/').next().unwrap_or_default();
    let bad = || format!("signedIdentity: {field} {text:?} is not a registry or a name in one");
    // what has no dot is a registry here too; the parser is told so by a port
    let parsed = match host.contains(['.', ':']) || host == "localhost" {
        true => Reference::from_str(&below),
        false => Reference::from_str(&format!("{host}:1{}", &below[host.len()..])),
    };
    let parsed = parsed.map_err(|_| bad())?;
    match is_name_only(&parsed) {
        true => Ok(text),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn identity(json: &str) -> SignedIdentity {
        SignedIdentity::parse(Some(serde_json::from_str(json).unwrap())).unwrap()
    }

    #[test]
    fn each_kind_accepts_what_it_says_and_nothing_else() {
        let by_digest = format!("r.io/a/b@{DIGEST}");
        let tag_and_digest = format!("r.io/a/b:1@{DIGEST}");
        let exact = r#"{"type":"matchExact"}"#;
        let default = r#"{"type":"matchRepoDigestOrExact"}"#;
        let repository = r#"{"type":"matchRepository"}"#;
        let reference = r#"{"type":"exactReference","dockerReference":"r.io/x:9"}"#;
        let exact_repository = r#"{"type":"exactRepository","dockerRepository":"r.io/x"}"#;
        let remap = r#"{"type":"remapIdentity","prefix":"m.io","signedPrefix":"r.io/a"}"#;
        let remap_deep = r#"{"type":"remapIdentity","prefix":"m.io/b","signedPrefix":"r.io"}"#;
        let table = [
            (exact, "r.io/a/b:1", "r.io/a/b:1", true),
            (exact, "r.io/a/b:1", "r.io/a/b:2", false),
            (exact, "r.io/a/b:1", "r.io/a/b", false),
            (exact, "busybox", "docker.io/library/busybox:latest", true),
            (exact, "busybox", "busybox:latest", true),
            (exact, "busybox", "busybox", false),
            (exact, &by_digest, "r.io/a/b:1", false),
            (exact, &by_digest, &by_digest, true),
            (exact, &tag_and_digest, &by_digest, true),
            (default, "r.io/a/b:1", "r.io/a/b:1", true),
            (default, "r.io/a/b:1", "r.io/a/c:1", false),
            (default, "r.io/a/b:1", &by_digest, false),
            (default, &by_digest, "r.io/a/b:1", true),
            (default, &by_digest, "r.io/a/c:1", false),
            (default, &by_digest, "r.io/a/b", false),
            (default, &tag_and_digest, "r.io/a/b:7", true),
            (repository, "r.io/a/b:1", "r.io/a/b:7", true),
            (repository, "r.io/a/b:1", "r.io/a/b", true),
            (repository, "r.io/a/b:1", "r.io/a:1", false),
            (reference, "q.io/z:1", "r.io/x:9", true),
            (reference, "q.io/z:1", "q.io/z:1", false),
            (reference, "q.io/z:1", "r.io/x", false),
            (exact_repository, "q.io/z:1", "r.io/x:1", true),
            (exact_repository, "q.io/z:1", "q.io/z:1", false),
            (remap, "m.io/b:1", "r.io/a/b:1", true),
            (remap, "m.io/b:1", "m.io/b:1", false),
            (remap, "m.io.evil.io/b:1", "r.io/a.evil.io/b:1", false),
            (remap, "r.io/a/b:1", "r.io/a/b:1", true),
            (remap_deep, "m.io/b/c:1", "r.io/c:1", true),
            (remap_deep, "m.io/bc:1", "r.io/c:1", false),
            // the whole name is the prefix: a registry alone is not a name
            (remap_deep, "m.io/b:1", "r.io:1", false),
            (default, "r.io/a/b:1", "not a name", false),
            (default, "r.io/a/b:1", "", false),
        ];
        for (kind, intended, signed, want) in table {
            let intended = Reference::from_str(intended).unwrap();
            let got = identity(kind).check(Some(&intended), signed);
            assert_eq!(got.is_ok(), want, "{kind} {intended} {signed}: {got:?}");
        }
    }

    #[test]
    fn an_archive_has_no_name_but_a_fixed_one_needs_none() {
        let reference = r#"{"type":"exactReference","dockerReference":"r.io/x:9"}"#;
        identity(reference).check(None, "r.io/x:9").unwrap();
        let error = SignedIdentity::default()
            .check(None, "r.io/x:9")
            .unwrap_err();
        assert!(error.contains("has no name"), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "null",
            "[]",
            "{}",
            r#"{"type":"matchAll"}"#,
            r#"{"type":"matchExact","prefix":"a"}"#,
            r#"{"type":"exactReference"}"#,
            r#"{"type":"exactReference","dockerReference":"r.io/x"}"#,
            r#"{"type":"exactReference","dockerReference":"R.io/UPPER:1"}"#,
            r#"{"type":"exactRepository","dockerRepository":"r.io/x:"}"#,
            r#"{"type":"remapIdentity","prefix":"m.io"}"#,
            r#"{"type":"remapIdentity","prefix":"m.io/","signedPrefix":"r.io"}"#,
            r#"{"type":"remapIdentity","prefix":"m.io/a:1","signedPrefix":"r.io"}"#,
            r#"{"type":"remapIdentity","prefix":"*.io","signedPrefix":"r.io"}"#,
        ] {
            let value = serde_json::from_str(bad).unwrap();
            assert!(SignedIdentity::parse(Some(value)).is_err(), "{bad}");
        }
        assert_eq!(
            SignedIdentity::parse(None).unwrap(),
            SignedIdentity::MatchRepoDigestOrExact
        );
    }
}
