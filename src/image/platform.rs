//! Which entry of an image index this machine runs.

use oci_spec::image::{Descriptor, MediaType};

/// An operating system and processor as image indexes name them (Go's names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v7`, `v8`, …; `None` where the architecture has no variants or the host's is the plain one.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this binary was built for.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an entry fits: 0 is best, `None` is not at all.
    ///
    /// An ARM core runs what was built for older ones (v8 > v7 > v6 > v5); an entry without a
    /// variant means the oldest common one, except on arm64, where it means v8. Elsewhere an exact
    /// variant is best and one without is the fallback (amd64/v3 needs a host that says so).
    fn rank(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<usize> {
        if os != self.os || architecture != self.architecture {
            return None;
        }
        let variant = variant.filter(|v| !v.is_empty());
        let chain: &[&str] = match architecture {
            "arm" => &["v8", "v7", "v6", "v5"],
            "arm64" => &["v8"],
            _ => &[],
        };
        let host = self.variant.as_deref().or(chain.first().copied());
        match (variant, host) {
            (None, _) => Some(chain.len()),
            (Some(entry), Some(host)) if entry == host => Some(0),
            (Some(entry), Some(host)) => {
                let of = |name| chain.iter().position(|known| *known == name);
                let (entry, host) = (of(entry)?, of(host)?);
                (entry > host).then(|| entry - host)
            }
            (Some(_), None) => None,
        }
    }

    /// The entry of an index that fits best; of equals the first, as the image spec asks.
    ///
    /// An index inside the index that names no platform is taken when nothing else fits.
    pub fn pick<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let ranked = entries.iter().filter_map(|entry| {
            let platform = entry.platform().as_ref()?;
            let rank = self.rank(
                &platform.os().to_string(),
                &platform.architecture().to_string(),
                platform.variant().as_deref(),
            )?;
            Some((rank, entry))
        });
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
            .or_else(|| {
                let mut unnamed = entries.iter().filter(|entry| entry.platform().is_none());
                unnamed
                    .clone()
                    .find(|entry| is_index(entry.media_type()))
                    .or_else(|| {
                        // an index with a single plain entry (`oras`, `buildah manifest`) needs no choice
                        let only = unnamed.next()?;
                        (entries.len() == 1).then_some(only)
                    })
            })
    }

    /// `os/arch[/variant]` of each entry, for the error that says what there is.
    pub fn offered(entries: &[Descriptor]) -> String {
        let names = entries.iter().filter_map(|entry| {
            let platform = entry.platform().as_ref()?;
            let variant = platform
                .variant()
                .as_ref()
                .map(|v| format!("/{v}"))
                .unwrap_or_default();
            Some(format!(
                "{}/{}{variant}",
                platform.os(),
                platform.architecture()
            ))
        });
        const SHOWN: usize = 16;
        let names: Vec<String> = names.take(SHOWN).collect();
        if names.is_empty() {
            "no platform".to_owned()
        } else {
            names.join(", ")
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

fn is_index(media_type: &MediaType) -> bool {
    super::manifest::is_index(media_type.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: &[(&str, &str, &str)]) -> Vec<Descriptor> {
        let json = platforms
            .iter()
            .enumerate()
            .map(|(index, (os, arch, variant))| {
                let mut platform = serde_json::json!({"os": os, "architecture": arch});
                if !variant.is_empty() {
                    platform["variant"] = (*variant).into();
                }
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{index:064x}"), "size": index, "platform": platform,
                })
            });
        serde_json::from_value(json.collect()).unwrap()
    }

    #[test]
    fn the_best_entry_is_picked() {
        let host = |architecture: &str, variant: Option<&str>| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        };
        let all = [
            ("windows", "amd64", ""),
            ("linux", "arm", "v5"),
            ("linux", "arm", "v6"),
            ("linux", "arm", "v7"),
            ("linux", "arm64", "v8"),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
            ("linux", "arm64", ""),
            ("unknown", "unknown", ""),
        ];
        let table: &[(Platform, Option<u64>)] = &[
            (host("amd64", None), Some(6)),
            (host("amd64", Some("v3")), Some(5)),
            (host("amd64", Some("v2")), Some(6)),
            (host("arm64", Some("v8")), Some(4)),
            (host("arm", Some("v7")), Some(3)),
            (host("arm", Some("v8")), Some(3)),
            (host("arm", Some("v6")), Some(2)),
            (host("arm", Some("v5")), Some(1)),
            (host("s390x", None), None),
        ];
        let entries = entries(&all);
        for (platform, want) in table {
            assert_eq!(
                platform.pick(&entries).map(Descriptor::size),
                *want,
                "{platform}"
            );
        }
    }

    #[test]
    fn an_entry_without_variant_is_the_fallback() {
        let entries = entries(&[("linux", "arm", ""), ("linux", "arm64", "")]);
        let arm = Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: None,
        };
        assert_eq!(arm.pick(&entries).map(Descriptor::size), Some(0));
        let arm64 = Platform {
            architecture: "arm64".into(),
            variant: Some("v8".into()),
            ..arm
        };
        assert_eq!(arm64.pick(&entries).map(Descriptor::size), Some(1));
    }
}
