//! Which images the kubelet's garbage collection must leave (crio.conf `pinned_images`).

use std::str::FromStr;

use super::reference::Reference;
use crate::storage::ImageRecord;

/// Patterns of images to keep: `name:tag` exactly, `prefix*`, or `*keyword*`.
#[derive(Debug, Clone, Default)]
pub struct Pinned {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// As written, and in its normal form.
    Exact(String, Option<String>),
    Prefix(String),
    Keyword(String),
}

impl Pinned {
    /// Reads the patterns as crio.conf has them; empty ones are skipped.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Pinned {
        let patterns = patterns
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(
                |text| match (text.strip_prefix('*'), text.strip_suffix('*')) {
                    (Some(rest), Some(_)) => {
                        Pattern::Keyword(rest.trim_end_matches('*').to_owned())
                    }
                    (None, Some(prefix)) => Pattern::Prefix(prefix.to_owned()),
                    (Some(_) | None, None) => {
                        let full = Reference::from_str(text).map(Reference::or_latest);
                        Pattern::Exact(text.to_owned(), full.ok().map(|full| full.to_string()))
                    }
                },
            );
        Pinned {
            patterns: patterns.collect(),
        }
    }

    /// Whether one of the image's names or digest references matches.
    pub fn matches(&self, image: &ImageRecord) -> bool {
        let mut names = image.names.iter().chain(&image.digests);
        names.any(|name| self.patterns.iter().any(|pattern| pattern.matches(name)))
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Exact(written, full) => name == written || Some(name) == full.as_deref(),
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
            Pattern::Keyword(keyword) => name.contains(keyword.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_crio_conf_says() {
        let name = "registry.k8s.io/pause:3.10";
        let table = [
            ("registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause", false),
            ("registry.k8s.io/*", true),
            ("k8s.io/*", false),
            ("*pause*", true),
            ("*paws*", false),
            ("*", true),
            ("", false),
        ];
        for (pattern, want) in table {
            let pinned = Pinned::new([pattern]);
            assert_eq!(
                pinned.patterns.iter().any(|p| p.matches(name)),
                want,
                "{pattern}"
            );
        }
        let short = Pinned::new(["busybox"]);
        assert!(short.patterns[0].matches("docker.io/library/busybox:latest"));
    }
}
