//! Which images the kubelet's garbage collection must leave (crio.conf `pinned_images`).

use std::str::FromStr;

use super::reference::Reference;
use crate::storage::ImageRecord;

/// Patterns of images to keep, as CRI-O reads them: a whole name, or with `*` at its end or at both
/// ends a part of one. CRI-O does not tie `name*` to the beginning of a name, and so nor does this: an
/// image that it kept is kept here. Letters match whatever their case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// As written, and in its normal form.
    Whole(String, Option<String>),
    Part(String),
}

impl Pinned {
    /// Reads the patterns as crio.conf has them; empty ones are skipped.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Pinned {
        let patterns = patterns.into_iter().filter(|text| !text.is_empty());
        let parsed = patterns.map(|text| {
            let Some(part) = text.strip_suffix('*') else {
                let full = Reference::from_str(text).map(Reference::or_latest);
                let full = full.ok().map(|full| full.to_string().to_lowercase());
                return Pattern::Whole(text.to_lowercase(), full);
            };
            Pattern::Part(part.strip_prefix('*').unwrap_or(part).to_lowercase())
        });
        Pinned {
            patterns: parsed.collect(),
        }
    }

    /// Whether one of the image's names or digest references matches.
    pub fn matches(&self, image: &ImageRecord) -> bool {
        let mut names = image.names.iter().chain(&image.digests);
        names.any(|name| self.matches_name(name))
    }

    fn matches_name(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Whole(written, full) => name == *written || Some(&name) == full.as_ref(),
            Pattern::Part(part) => name.contains(part.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_cri_o_s_regular_expressions_do() {
        let name = "registry.k8s.io/pause:3.10";
        let table = [
            ("registry.k8s.io/pause:3.10", true),
            ("Registry.K8s.io/Pause:3.10", true),
            ("registry.k8s.io/pause", false),
            ("registry.k8s.io/*", true),
            ("registry.k8s.io/paws*", false),
            ("pause*", true),
            ("k8s.io/*", true),
            ("*pause*", true),
            ("*PAUSE*", true),
            ("*paws*", false),
            ("*pause:3.10", false),
            ("registry?k8s.io/*", false),
            ("*", true),
            ("**", true),
            ("", false),
        ];
        for (pattern, want) in table {
            assert_eq!(Pinned::new([pattern]).matches_name(name), want, "{pattern}");
        }
        let short = Pinned::new(["busybox"]);
        assert!(short.matches_name("docker.io/library/busybox:latest"));
        assert!(!short.matches_name("docker.io/library/busybox:1"));
    }
}
