//! Image references: the docker grammar, its normal form and what is short about a short name.
//!
//! Turns text into a [`Reference`]; which registry a short name means is `registries`' to say.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Digest, DigestAlgorithm};

use super::error::ImageError;

/// The registry that docker's normal form puts before a name without one.
pub const DOCKER_HUB: &str = "docker.io";
/// distribution/reference: registry and repository together.
const MAX_NAME_LENGTH: usize = 255;
const MAX_TAG_LENGTH: usize = 128;
/// Longest text looked at; the grammar itself allows name + tag + digest.
const MAX_TEXT_LENGTH: usize = 512;

/// A fully qualified image reference: `registry/repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host with an optional port, `docker.io` for the hub.
    pub registry: String,
    /// Path below the registry, with `library/` where the hub implies it.
    pub repository: String,
    /// The tag as given; never defaulted here (see [`Reference::or_latest`]).
    pub tag: Option<String>,
    /// The sha256 digest as given.
    pub digest: Option<Digest>,
}

/// A name without a registry, as `registries` resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortName {
    /// The path alone, without `library/`, tag and digest.
    pub path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a text names: everything, or something to be completed from registries.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The registry was in the text.
    Full(Reference),
    /// It was not.
    Short(ShortName),
}

impl Name {
    /// Parses `text` by docker's grammar.
    pub fn parse(text: &str) -> Result<Name, ImageError> {
        parse(text).map_err(|reason| ImageError::Reference {
            reference: text.chars().take(MAX_TEXT_LENGTH).collect(),
            reason,
        })
    }
}

impl ShortName {
    /// The reference this name is below `prefix` (a registry, or a registry with a path).
    pub fn at(&self, prefix: &str) -> Result<Reference, ImageError> {
        self.with_name(&format!("{prefix}/{}", self.path))
    }

    /// The reference this name is when an alias says that its full name is `name`.
    pub fn with_name(&self, name: &str) -> Result<Reference, ImageError> {
        let full = Reference::from_str(name)?;
        Ok(Reference {
            tag: self.tag.clone(),
            digest: self.digest.clone(),
            ..full
        })
    }
}

impl Reference {
    /// `registry/repository`, the part that repo digests and policy scopes start with.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same reference with `:latest` where neither tag nor digest was given.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The reference an image is kept under by tag; `None` when it was named by digest, which
    /// wins over a tag beside it, as in containers/image.
    pub fn tagged_name(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            (Some(_) | None, _) => None,
        }
    }

    /// `registry/repository@digest`.
    pub fn repo_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    /// The path segment of the manifest to ask a registry for: digest before tag.
    pub fn manifest_name(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_ref(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    /// Parses by docker's rules: a name without a registry is the hub's.
    fn from_str(text: &str) -> Result<Reference, ImageError> {
        match Name::parse(text)? {
            Name::Full(reference) => Ok(reference),
            Name::Short(short) => short.at(DOCKER_HUB),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Accepts `sha256:<64 hex>` only: no other algorithm is in use for images.
pub fn parse_sha256(text: &str) -> Result<Digest, String> {
    let digest = Digest::from_str(text).map_err(|error| format!("digest {text}: {error}"))?;
    match digest.algorithm() {
        DigestAlgorithm::Sha256 => Ok(digest),
        other => Err(format!(
            "digest algorithm {other} is not supported, only sha256"
        )),
    }
}

fn parse(text: &str) -> Result<Name, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > MAX_TEXT_LENGTH {
        return Err(format!("it is longer than {MAX_TEXT_LENGTH} bytes"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_sha256(digest)?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rfind(':') {
        Some(colon) if !rest[colon..].contains('/') => (&rest[..colon], Some(&rest[colon + 1..])),
        Some(_) | None => (rest, None),
    };
    let tag = tag.map(check_tag).transpose()?;
    if is_hex_id(name) {
        return Err("64 hex digits are an image id, not a name".to_owned());
    }
    match name.split_once('/') {
        Some((host, path)) if is_registry(host) => {
            check_host(host)?;
            check_path(path)?;
            let (registry, repository) = normalize(host, path);
            check_length(&registry, &repository)?;
            Ok(Name::Full(Reference {
                registry,
                repository,
                tag,
                digest,
            }))
        }
        Some(_) | None => {
            check_path(name)?;
            check_length(DOCKER_HUB, name)?;
            Ok(Name::Short(ShortName {
                path: name.to_owned(),
                tag,
                digest,
            }))
        }
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.chars().any(|c| c.is_ascii_uppercase())
}

fn normalize(host: &str, path: &str) -> (String, String) {
    let host = if host == "index.docker.io" {
        DOCKER_HUB
    } else {
        host
    };
    if host == DOCKER_HUB && !path.contains('/') {
        (host.to_owned(), format!("library/{path}"))
    } else {
        (host.to_owned(), path.to_owned())
    }
}

/// 64 lower-case hex digits: an image id, which is no name.
pub fn is_hex_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_length(registry: &str, repository: &str) -> Result<(), String> {
    if registry.len() + 1 + repository.len() > MAX_NAME_LENGTH {
        return Err(format!("its name is longer than {MAX_NAME_LENGTH} bytes"));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<String, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= MAX_TAG_LENGTH
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid {
        Ok(tag.to_owned())
    } else {
        Err(format!("{tag:?} is not a tag"))
    }
}

/// A host name, IPv4 address or bracketed IPv6 address, with an optional port.
pub fn check_host(host: &str) -> Result<(), String> {
    let bad = || Err(format!("{host:?} is not a registry host"));
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return bad();
                }
                match after.strip_prefix(':') {
                    Some(port) => ("v6", Some(port)),
                    None if after.is_empty() => ("v6", None),
                    None => return bad(),
                }
            }
            None => return bad(),
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return bad();
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(format!(
            "{path:?} is not a repository path (lower-case letters, digits and single separators)"
        ))
    }
}

/// `[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut seen = false;
    for byte in component.bytes() {
        if alphanumeric(byte) {
            let joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                || separator.bytes().all(|b| b == b'-');
            if !joined || (!seen && !separator.is_empty()) {
                return false;
            }
            separator.clear();
            seen = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    seen && separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn references_normalise_as_docker_does() {
        let table = [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("bitnami/redis", "docker.io/bitnami/redis"),
            ("localhost/app:v1", "localhost/app:v1"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("quay.io/a/b/c:t", "quay.io/a/b/c:t"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("Registry/app", "Registry/app"),
            ("a__b/c-d--e.f:T_1.0-x", "docker.io/a__b/c-d--e.f:T_1.0-x"),
        ];
        for (text, want) in table {
            assert_eq!(
                Reference::from_str(text).unwrap().to_string(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let text = format!("busybox:1@sha256:{HEX}");
        let reference = Reference::from_str(&text).unwrap();
        assert_eq!(reference.manifest_name(), format!("sha256:{HEX}"));
        assert_eq!(reference.tagged_name(), None);
        assert_eq!(
            reference.to_string(),
            format!("docker.io/library/busybox:1@sha256:{HEX}")
        );
        let plain = Reference::from_str("busybox").unwrap().or_latest();
        assert_eq!(
            plain.tagged_name().as_deref(),
            Some("docker.io/library/busybox:latest")
        );
    }

    #[test]
    fn bad_references_are_refused_with_the_reason() {
        let long = format!("{}/x", "a".repeat(300));
        let id = HEX.to_owned();
        let table: &[&str] = &[
            "",
            ":",
            "@",
            "/a",
            "a/",
            "a//b",
            "A",
            "busyBox",
            "a:",
            "a:-x",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:12",
            "a@sha512:00",
            "a@md5:00",
            "http://x/y",
            "x.io:port/y",
            "x.io:99999/y",
            "x..io/y",
            "-x.io/y",
            "[::g]/y",
            "a:b:c",
            "../a",
            "a/../b",
            "a\n",
            &long,
            &id,
            "x.io/",
            "é/a",
        ];
        for text in table {
            let error = Reference::from_str(text).expect_err(text).to_string();
            assert!(error.starts_with("image reference"), "{text}: {error}");
        }
    }

    #[test]
    fn short_names_are_told_from_full_ones() {
        for (text, short) in [
            ("a", true),
            ("a/b", true),
            ("a.b/c", false),
            ("localhost/a", false),
        ] {
            assert_eq!(
                matches!(Name::parse(text).unwrap(), Name::Short(_)),
                short,
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::from_str(&text) {
                let again = Reference::from_str(&reference.to_string()).unwrap();
                proptest::prop_assert_eq!(again, reference);
            }
        }
    }
}
