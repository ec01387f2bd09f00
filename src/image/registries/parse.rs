//! The text of registries.conf (containers-registries.conf(5), version 2) and its checks: what is an
//! error to containers/image is one here, at a line.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::keys;
use crate::image::error::ImageError;
use crate::image::reference;

/// One file, checked.
#[derive(Debug, Default)]
pub(super) struct File {
    pub search: Option<Vec<String>>,
    pub mode: Option<ShortNameMode>,
    pub registries: Vec<Registry>,
    /// An empty name takes an earlier file's alias away.
    pub aliases: BTreeMap<String, String>,
    pub credential_helpers: Option<Vec<String>>,
    /// Keys that mean nothing, each told in one line.
    pub warnings: Vec<String>,
}

/// What to do with a short name that no alias resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortNameMode {
    /// Only when there is one search registry: nobody is there to be asked which one is meant.
    Enforcing,
    /// Try them in order; also what an interactive tool may do without a terminal.
    Permissive,
    /// Try them in order.
    Disabled,
}

/// A `[[registry]]` table.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    /// What references begin with, or `*.domain`; never empty.
    pub prefix: String,
    /// Empty, with a `*.domain` only: the place is the one of the reference.
    pub location: String,
    pub insecure: bool,
    pub blocked: bool,
    pub mirror_by_digest_only: bool,
    pub mirrors: Vec<Mirror>,
}

/// A `[[registry.mirror]]` table.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub location: String,
    pub insecure: bool,
    pub pulls: PullFromMirror,
}

/// Which pulls a mirror serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFromMirror {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// One file, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Written {
    unqualified_search_registries: Option<Vec<Spanned<String>>>,
    short_name_mode: Option<ShortNameMode>,
    #[serde(default)]
    registry: Vec<Spanned<WrittenRegistry>>,
    #[serde(default)]
    aliases: BTreeMap<String, Spanned<String>>,
    credential_helpers: Option<Vec<String>>,
    /// The tables of version 1, refused by name.
    registries: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WrittenRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Spanned<WrittenMirror>>,
    /// A mirror's key, refused here by name.
    pull_from_mirror: Option<toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WrittenMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

/// What is wrong, and where in the text.
struct Mistake {
    span: Range<usize>,
    text: String,
}

/// Parses and checks one file; `path` is for the error only.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, ImageError> {
    read(text).map_err(|mistake| {
        let mut reason = format!("{}: {}", keys::place(text, &mistake.span), mistake.text);
        // a misspelt key is often why another is missing
        if let Some(misspelt) = keys::unknown(text).first() {
            reason = format!("{reason}; {misspelt}");
        }
        ImageError::Config {
            path: path.to_owned(),
            reason,
        }
    })
}

fn read(text: &str) -> Result<File, Mistake> {
    let written: Written = toml::from_str(text).map_err(|error| Mistake {
        span: error.span().unwrap_or_default(),
        text: error.message().replace('\n', ", "),
    })?;
    if let Some(old) = written.registries {
        let fault = "[registries.search], [registries.insecure] and [registries.block] are version \
                     1; write unqualified-search-registries and [[registry]] tables instead";
        return Err(Mistake {
            span: old.span(),
            text: fault.to_owned(),
        });
    }
    let mut file = File {
        mode: written.short_name_mode,
        credential_helpers: written.credential_helpers,
        warnings: keys::unknown(text),
        ..File::default()
    };
    if let Some(hosts) = written.unqualified_search_registries {
        file.search = Some(each(hosts, search_registry)?);
    }
    for (alias, name) in written.aliases {
        let span = name.span();
        check_alias(&alias, name.get_ref()).map_err(|reason| Mistake {
            span,
            text: format!("[aliases] {alias:?}: {reason}"),
        })?;
        file.aliases.insert(alias, name.into_inner());
    }
    let spans: Vec<_> = written.registry.iter().map(Spanned::span).collect();
    file.registries = each(written.registry, registry)?;
    check_agreement(&file.registries, &spans)?;
    // the first table of a prefix wins within a file
    let mut seen = HashSet::new();
    file.registries
        .retain(|registry| seen.insert(registry.prefix.clone()));
    Ok(file)
}

/// Checks each with its place in the text.
fn each<W, C>(
    all: Vec<Spanned<W>>,
    check: impl Fn(W) -> Result<C, String>,
) -> Result<Vec<C>, Mistake> {
    let checked = all.into_iter().map(|one| {
        let span = one.span();
        check(one.into_inner()).map_err(|text| Mistake { span, text })
    });
    checked.collect()
}

fn registry(written: WrittenRegistry) -> Result<Registry, String> {
    let (mut prefix, location) = (trimmed(&written.prefix), trimmed(&written.location));
    if prefix.is_empty() {
        if location.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        prefix.clone_from(&location);
    }
    let context = |reason: String| format!("[[registry]] {prefix:?}: {reason}");
    match prefix.strip_prefix("*.") {
        Some(domain) if domain.contains(['/', ':', '@', '*']) || domain.is_empty() => {
            let fault = "a wildcard prefix is *.domain and nothing after it";
            return Err(context(fault.to_owned()));
        }
        None if location.is_empty() => {
            let fault = "it has no location, which only a prefix *.domain can do without; write \
                         location = ";
            return Err(context(format!(
                "{fault}{prefix:?} to leave it where it is"
            )));
        }
        Some(_) => {}
        None => check_location(&prefix).map_err(context)?,
    }
    if !location.is_empty() {
        check_location(&location).map_err(context)?;
    }
    if written.pull_from_mirror.is_some() {
        let fault = "pull-from-mirror belongs into a [[registry.mirror]] table";
        return Err(context(fault.to_owned()));
    }
    let mirrors = written.mirror.into_iter().map(Spanned::into_inner);
    let mirrors: Result<_, String> = mirrors
        .map(|one| mirror(&one, written.mirror_by_digest_only))
        .collect();
    Ok(Registry {
        mirrors: mirrors.map_err(|reason| context(format!("mirror: {reason}")))?,
        location,
        insecure: written.insecure,
        blocked: written.blocked,
        mirror_by_digest_only: written.mirror_by_digest_only,
        prefix,
    })
}

fn mirror(written: &WrittenMirror, all_by_digest: bool) -> Result<Mirror, String> {
    let location = trimmed(&written.location);
    if location.is_empty() {
        return Err("it has no location".to_owned());
    }
    check_location(&location)?;
    if all_by_digest && written.pull_from_mirror.is_some() {
        let fault = "mirror-by-digest-only and a mirror's pull-from-mirror exclude each other";
        return Err(fault.to_owned());
    }
    Ok(Mirror {
        location,
        insecure: written.insecure,
        pulls: written.pull_from_mirror.unwrap_or_default(),
    })
}

/// Tables with other prefixes but one location must say the same of the place.
fn check_agreement(registries: &[Registry], spans: &[Range<usize>]) -> Result<(), Mistake> {
    let mut known: BTreeMap<&str, &Registry> = BTreeMap::new();
    for (registry, span) in registries.iter().zip(spans) {
        let place = match registry.location.as_str() {
            "" => registry.prefix.as_str(),
            location => location,
        };
        let before = known.entry(place).or_insert(registry);
        let key = match *before {
            before if before.insecure != registry.insecure => "insecure",
            before if before.blocked != registry.blocked => "blocked",
            _ => continue,
        };
        return Err(Mistake {
            span: span.clone(),
            text: format!(
                "[[registry]] {:?}: `{key}` is not what [[registry]] {:?} says of the same location \
                 {place:?}",
                registry.prefix, before.prefix
            ),
        });
    }
    Ok(())
}

fn search_registry(host: String) -> Result<String, String> {
    let host = trimmed(&host);
    check_search(&host).map_err(|reason| format!("unqualified-search-registries: {reason}"))?;
    Ok(host)
}

/// A host with an optional port and nothing else.
pub(super) fn check_search(host: &str) -> Result<(), String> {
    match host.contains(['/', '@']) {
        true => Err(format!(
            "{host:?} is not a registry host; write host[:port]"
        )),
        false => reference::check_host(host),
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('/').to_owned()
}

fn check_location(location: &str) -> Result<(), String> {
    if location.contains("://") {
        return Err(format!(
            "{location:?} has a URI scheme; write host[:port][/path] only"
        ));
    }
    let host = location.split('/').next().unwrap_or(location);
    // a prefix may go on after the host with a path, a tag or a digest
    reference::check_host(host.split('@').next().unwrap_or(host))
}

fn check_alias(alias: &str, name: &str) -> Result<(), String> {
    match reference::Name::parse(alias) {
        Ok(reference::Name::Short(_)) if !alias.contains([':', '@']) => {}
        Ok(_) | Err(_) => return Err("an alias is a short name without tag and digest".to_owned()),
    }
    match reference::Name::parse(name) {
        // an empty value takes an earlier file's alias away
        Err(_) if name.is_empty() => Ok(()),
        Ok(reference::Name::Full(full)) if full.tag.is_none() && full.digest.is_none() => Ok(()),
        Ok(_) | Err(_) => Err(format!(
            "{name:?} is not a registry/repository without tag and digest"
        )),
    }
}
