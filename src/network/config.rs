//! Network configurations: one network is a list of plugins. Pure parsing, by the rules of
//! libcni; which file is read, and when, is the catalog's business.
//!
//! A `.conflist` file holds a list. A `.conf` or `.json` file holds one plugin, which becomes a
//! list of one. Unknown fields stay in place and reach the plugins.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    error::{ConfigProblem, excerpt},
    version::CniVersion,
};

/// The longest network name. It is a part of the cache record's file name, together with a
/// container id (64), an interface (15) and two dashes, and 255 is the kernel's limit for those.
const MAX_NAME: usize = 160;

/// A network: what plugins to run, in which order, with what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    pub(super) name: String,
    /// The version of the specification that the plugins are spoken to in.
    pub(super) version: CniVersion,
    pub(super) plugins: Vec<Plugin>,
    /// Whether plugins must not be asked to collect garbage.
    pub(super) disables_gc: bool,
    /// Whether more plugins may stand as files in `<conf_dir>/<name>/`.
    pub(super) loads_folder: bool,
    /// The list as a document, for the cache: it is what DEL is run with, whatever the
    /// configuration directory holds by then.
    document: Value,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plugin {
    /// The name of its program.
    pub(super) kind: String,
    /// Capability arguments it asks for.
    pub(super) capabilities: Vec<String>,
    /// Its configuration.
    object: Map<String, Value>,
}

impl Network {
    /// Reads a `.conflist`.
    pub(super) fn parse_list(bytes: &[u8]) -> Result<Self, ConfigProblem> {
        let list = parse_object(bytes)?;
        let name = name(&list)?;
        let loads_folder = !flag(&list, "loadOnlyInlinedPlugins")?;
        // Of no use to us (CHECK is never run), but other tools read the file too.
        flag(&list, "disableCheck")?;
        let disables_gc = flag(&list, "disableGC")?;
        let plugins = match list.get("plugins") {
            None if loads_folder => Vec::new(),
            None => {
                return Err(field(
                    "plugins",
                    "is missing, and loadOnlyInlinedPlugins is true",
                ));
            }
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                return Err(field("plugins", "is empty"));
            }
            Some(Value::Array(plugins)) => plugins
                .iter()
                .enumerate()
                .map(|(i, plugin)| Plugin::from_value(plugin, &format!("plugins[{i}]")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(field("plugins", "is not a list")),
        };
        let version = version(&list)?;
        Ok(Self {
            name,
            version,
            plugins,
            disables_gc,
            loads_folder,
            document: Value::Object(list),
        })
    }

    /// Reads a `.conf` or `.json` with a single plugin.
    pub(super) fn parse_single(bytes: &[u8]) -> Result<Self, ConfigProblem> {
        let object = parse_object(bytes)?;
        if !object.contains_key("type") && object.contains_key("plugins") {
            return Err(field(
                "type",
                "is missing; a list of plugins needs the extension .conflist",
            ));
        }
        let name = name(&object)?;
        let version = version(&object)?;
        let object = Value::Object(object);
        let plugin = Plugin::from_value(&object, "")?;
        let document = json!({
            "name": name,
            "cniVersion": version.to_string(),
            "loadOnlyInlinedPlugins": true,
            "plugins": [object],
        });
        Ok(Self {
            name,
            version,
            plugins: vec![plugin],
            disables_gc: false,
            loads_folder: false,
            document,
        })
    }

    /// Appends the plugins found in the network's folder. The document gets them too, so that
    /// the cache alone is enough for DEL.
    pub(super) fn append(&mut self, plugins: Vec<Plugin>) {
        if plugins.is_empty() {
            return;
        }
        self.plugins.extend(plugins);
        self.document["plugins"] = self.plugins.iter().map(|p| p.object.clone()).collect();
        self.document["loadOnlyInlinedPlugins"] = true.into();
    }

    /// Whether its plugins know STATUS and GC.
    pub(super) fn has_status_and_gc(&self) -> bool {
        self.version >= CniVersion::WITH_STATUS_AND_GC
    }

    /// The list as a document.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    /// The list as it is kept in the cache.
    pub(super) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.document.to_string())
    }
}

impl Plugin {
    /// Reads a file of a network's folder.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ConfigProblem> {
        Self::from_value(&Value::Object(parse_object(bytes)?), "")
    }

    fn from_value(value: &Value, place: &str) -> Result<Self, ConfigProblem> {
        let at = |key: &str| {
            if place.is_empty() {
                key.to_owned()
            } else {
                format!("{place}.{key}")
            }
        };
        let Value::Object(object) = value else {
            return Err(field(place, "is not an object"));
        };
        let kind = match object.get("type") {
            Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
            None => return Err(field(at("type"), "is missing; it names the plugin to run")),
            Some(_) => return Err(field(at("type"), "is not a name")),
        };
        // It is joined to the plugin directories, and must not lead out of them.
        if kind.contains(['/', '\0']) || kind == "." || kind == ".." {
            return Err(field(
                at("type"),
                format!("{kind:?} is a path, and must be a file name"),
            ));
        }
        let capabilities = match object.get("capabilities") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(map)) => map
                .iter()
                .filter_map(|(capability, on)| match on {
                    Value::Bool(true) => Some(Ok(capability.clone())),
                    Value::Bool(false) => None,
                    _ => Some(Err(field(
                        at("capabilities"),
                        format!("{capability:?} is not true or false"),
                    ))),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(field(at("capabilities"), "is not an object")),
        };
        Ok(Self {
            kind,
            capabilities,
            object: object.clone(),
        })
    }

    /// The document for the plugin's stdin in an operation on the network as a whole, with that
    /// operation's own keys.
    pub(super) fn request_of_network(&self, network: &Network, more: &[(&str, Value)]) -> Vec<u8> {
        let mut request = self.object.clone();
        request.insert("name".into(), network.name.as_str().into());
        request.insert("cniVersion".into(), network.version.to_string().into());
        for (key, value) in more {
            request.insert((*key).into(), value.clone());
        }
        Value::Object(request).to_string().into_bytes()
    }

    /// The document for the plugin's stdin.
    pub(super) fn request(
        &self,
        network: &Network,
        prev_result: Option<&Map<String, Value>>,
        capability_args: Option<&Map<String, Value>>,
    ) -> Vec<u8> {
        let mut request = self.object.clone();
        request.insert("name".into(), network.name.as_str().into());
        request.insert("cniVersion".into(), network.version.to_string().into());
        if let Some(result) = prev_result {
            request.insert("prevResult".into(), Value::Object(result.clone()));
        }
        let asked: Map<String, Value> = self
            .capabilities
            .iter()
            .filter_map(|c| Some((c.clone(), capability_args?.get(c)?.clone())))
            .collect();
        if !asked.is_empty() {
            request.insert("runtimeConfig".into(), Value::Object(asked));
        }
        Value::Object(request).to_string().into_bytes()
    }
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ConfigProblem> {
    serde_json::from_slice(bytes).map_err(ConfigProblem::Json)
}

fn field(name: impl Into<String>, problem: impl Into<String>) -> ConfigProblem {
    ConfigProblem::Field {
        field: name.into(),
        problem: excerpt(problem.into()),
    }
}

fn name(object: &Map<String, Value>) -> Result<String, ConfigProblem> {
    match object.get("name") {
        None => Err(field("name", "is missing; a network needs a name")),
        Some(Value::String(name)) if is_valid_name(name) => Ok(name.clone()),
        Some(value) => Err(field(
            "name",
            format!(
                "{value} is not a network name: letters, digits, '_', '.' and '-', \
                 beginning with a letter or digit, at most {MAX_NAME}"
            ),
        )),
    }
}

/// The specification's rule for network names and container ids.
pub(super) fn is_valid_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A switch, which libcni also takes as a string.
fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, ConfigProblem> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(value) => Err(field(key, format!("{value} is not true or false"))),
    }
}

/// The version to speak: the newest of `cniVersions` and `cniVersion` that we know, else what
/// `cniVersion` says.
fn version(object: &Map<String, Value>) -> Result<CniVersion, ConfigProblem> {
    let parse = |key: &str, value: &Value| match value {
        Value::String(text) => text
            .parse::<CniVersion>()
            .map_err(|problem| field(key, problem)),
        _ => Err(field(key, format!("{value} is not a string"))),
    };
    let single = match object.get("cniVersion") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(value) => Some(parse("cniVersion", value)?),
    };
    let offered = match object.get("cniVersions") {
        None => Vec::new(),
        Some(Value::Array(versions)) => versions
            .iter()
            .map(|v| parse("cniVersions", v))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(field("cniVersions", "is not a list")),
    };
    let chosen = offered
        .into_iter()
        .chain(single)
        .filter(|v| *v <= CniVersion::NEWEST)
        .max();
    match chosen.or(single) {
        None if object.contains_key("cniVersions") => Err(field(
            "cniVersions",
            format!("has none up to {}", CniVersion::NEWEST),
        )),
        None => Ok(CniVersion::ASSUMED),
        Some(version) if version > CniVersion::NEWEST => Err(field(
            "cniVersion",
            format!("{version} is newer than {}", CniVersion::NEWEST),
        )),
        Some(version) => Ok(version),
    }
}

/// The kinds of file in a configuration directory, by extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// `.conflist`
    List,
    /// `.conf`, `.json`
    Single,
}

impl FileKind {
    /// What a file is by its name, if it is a configuration at all.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "conflist" => Some(Self::List),
            "conf" | "json" => Some(Self::Single),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
