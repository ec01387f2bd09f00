//! The text of registries.conf (containers-registries.conf(5), version 2) and its checks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::image::error::ImageError;
use crate::image::reference;

/// One file, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    pub unqualified_search_registries: Option<Vec<String>>,
    pub short_name_mode: Option<ShortNameMode>,
    #[serde(default)]
    pub registry: Vec<Registry>,
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    pub credential_helpers: Option<Vec<String>>,
    // read so that the files in the field parse; without effect in this build
    #[serde(rename = "additional-layer-store-auth-helper")]
    pub _additional_layer_store_auth_helper: Option<String>,
    /// The tables of version 1, refused by name.
    pub registries: Option<toml::Value>,
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Registry {
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub blocked: bool,
    #[serde(default)]
    pub mirror_by_digest_only: bool,
    #[serde(default)]
    pub mirror: Vec<Mirror>,
}

/// A `[[registry.mirror]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Mirror {
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub pull_from_mirror: PullFromMirror,
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

/// Parses and checks one file; `path` is for the error only.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, ImageError> {
    let fail = |reason: String| ImageError::Config {
        path: path.to_owned(),
        reason,
    };
    let mut file: File = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
    if file.registries.is_some() {
        return Err(fail(
            "[registries.search], [registries.insecure] and [registries.block] are version 1; \
             write unqualified-search-registries and [[registry]] tables instead"
                .to_owned(),
        ));
    }
    for registry in &mut file.registry {
        check_registry(registry).map_err(fail)?;
    }
    for host in file.unqualified_search_registries.iter().flatten() {
        check_location(host)
            .map_err(|reason| fail(format!("unqualified-search-registries: {reason}")))?;
    }
    for (alias, name) in &file.aliases {
        check_alias(alias, name)
            .map_err(|reason| fail(format!("[aliases] {alias:?}: {reason}")))?;
    }
    Ok(file)
}

fn check_registry(registry: &mut Registry) -> Result<(), String> {
    trim_slash(&mut registry.prefix);
    trim_slash(&mut registry.location);
    if registry.prefix.is_empty() {
        if registry.location.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        registry.prefix = registry.location.clone();
    }
    let context = |reason: String| format!("[[registry]] {:?}: {reason}", registry.prefix);
    match registry.prefix.strip_prefix("*.") {
        Some(domain) if domain.contains(['/', ':', '@', '*']) || domain.is_empty() => {
            return Err(context(
                "a wildcard prefix is *.domain and nothing after it".to_owned(),
            ));
        }
        Some(_) => {}
        None => {
            check_location(&registry.prefix).map_err(context)?;
            if registry.location.is_empty() {
                registry.location = registry.prefix.clone();
            }
        }
    }
    if !registry.location.is_empty() {
        check_location(&registry.location).map_err(context)?;
    }
    for mirror in &mut registry.mirror {
        trim_slash(&mut mirror.location);
        check_location(&mirror.location).map_err(|reason| context(format!("mirror: {reason}")))?;
        if registry.mirror_by_digest_only && mirror.pull_from_mirror != PullFromMirror::All {
            return Err(context(
                "mirror-by-digest-only and a mirror's pull-from-mirror exclude each other"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

fn trim_slash(text: &mut String) {
    text.truncate(text.trim_end_matches('/').len());
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
