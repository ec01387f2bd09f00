//! One specification file: its text to checked edits.
//!
//! Strict, as the reference implementation is: an unknown field may be the one that matters, so
//! the file is not used then. What is read comes from root's own directories, written by device
//! plugins; it is bounded all the same.

use std::collections::BTreeMap;

use oci_spec::runtime::{Hook, LinuxDeviceType, LinuxIntelRdt};
use serde::Deserialize;
use serde_json::Value;

use super::Mount;
use super::name::{check_device, check_kind};
use crate::hooks::HookStep;
use crate::yaml;

/// The versions whose fields are known.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
];

/// A specification, checked.
#[derive(Debug)]
pub(super) struct Specification {
    /// `vendor.com/class`.
    pub(super) kind: String,
    /// For every container that has one of the devices.
    pub(super) common: ContainerEdits,
    /// By the name of the device, without the kind.
    pub(super) devices: BTreeMap<String, ContainerEdits>,
}

/// Edits as they stand in a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ContainerEdits {
    pub(super) env: Vec<String>,
    pub(super) nodes: Vec<Node>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<(HookStep, Hook)>,
    pub(super) gids: Vec<u32>,
    pub(super) intel_rdt: Option<LinuxIntelRdt>,
    /// Whether network devices are asked for, which are not moved yet.
    pub(super) net_devices: bool,
}

/// A device node before it is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// In the container.
    pub(super) path: String,
    /// On the host.
    pub(super) host_path: String,
    /// Character, block or pipe; absent: as found.
    pub(super) kind: Option<LinuxDeviceType>,
    /// Absent: as found.
    pub(super) numbers: Option<(i64, i64)>,
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Letters of `rwm`.
    pub(super) access: String,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// Reads and checks a file's text.
///
/// # Errors
/// Says which field is wrong and how, in words.
pub(super) fn parse(text: &[u8], format: Format) -> Result<Specification, String> {
    let value: Value = match format {
        Format::Json => serde_json::from_slice(text).map_err(|error| error.to_string())?,
        Format::Yaml => {
            let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
            yaml::parse(text)?
        }
    };
    if holds_nul(&value) {
        return Err("a text in it has a NUL character".to_owned());
    }
    let wire: WireSpec = serde_json::from_value(value).map_err(|error| error.to_string())?;
    wire.check()
}

/// None of the texts can have one: all of them end up in the kernel.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(holds_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireSpec {
    cdi_version: String,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    devices: Option<Vec<WireDevice>>,
    #[serde(default)]
    container_edits: Option<WireEdits>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireDevice {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    container_edits: WireEdits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireEdits {
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    device_nodes: Option<Vec<WireNode>>,
    #[serde(default)]
    net_devices: Option<Vec<Value>>,
    #[serde(default)]
    mounts: Option<Vec<WireMount>>,
    #[serde(default)]
    hooks: Option<Vec<WireHook>>,
    #[serde(default)]
    intel_rdt: Option<WireRdt>,
    #[serde(default)]
    additional_gids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireNode {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: i64,
    #[serde(default)]
    minor: i64,
    #[serde(default)]
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireMount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Option<Vec<String>>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireHook {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireRdt {
    #[serde(default, rename = "closID")]
    clos_id: String,
    #[serde(default)]
    l3_cache_schema: Option<String>,
    #[serde(default)]
    mem_bw_schema: Option<String>,
    #[serde(default)]
    schemata: Option<Vec<String>>,
    #[serde(default)]
    enable_monitoring: Option<bool>,
    // of versions before 1.1.0
    #[serde(default, rename = "enableCMT")]
    enable_cmt: Option<bool>,
    #[serde(default, rename = "enableMBM")]
    enable_mbm: Option<bool>,
}

impl WireSpec {
    fn check(self) -> Result<Specification, String> {
        let version = self
            .cdi_version
            .strip_prefix('v')
            .unwrap_or(&self.cdi_version);
        if !VERSIONS.contains(&version) {
            let cut: String = version.chars().take(32).collect();
            return Err(format!(
                "cdiVersion: `{}` is not known, the newest known is {}",
                cut.escape_debug(),
                VERSIONS[VERSIONS.len() - 1]
            ));
        }
        check_kind(&self.kind).map_err(|problem| format!("kind: {problem}"))?;
        let mut devices = BTreeMap::new();
        for (index, device) in self.devices.unwrap_or_default().into_iter().enumerate() {
            let field = format!("devices[{index}]");
            check_device(&device.name).map_err(|problem| format!("{field}.name: {problem}"))?;
            let edits = device
                .container_edits
                .check(&format!("{field}.containerEdits"))?;
            if edits == ContainerEdits::default() {
                return Err(format!("{field}.containerEdits: there are none"));
            }
            if devices.insert(device.name, edits).is_some() {
                return Err(format!("{field}.name: a device before it has the same"));
            }
        }
        let common = self.container_edits.unwrap_or_default();
        Ok(Specification {
            kind: self.kind,
            common: common.check("containerEdits")?,
            devices,
        })
    }
}

impl WireEdits {
    fn check(self, field: &str) -> Result<ContainerEdits, String> {
        for (index, entry) in self.env.iter().flatten().enumerate() {
            if entry.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
                return Err(format!("{field}.env[{index}]: it is not KEY=value"));
            }
        }
        fn all<T, U>(
            field: &str,
            name: &str,
            list: Option<Vec<T>>,
            check: impl Fn(T) -> Result<U, String>,
        ) -> Result<Vec<U>, String> {
            let list = list.unwrap_or_default().into_iter().enumerate();
            list.map(|(index, one)| {
                check(one).map_err(|problem| format!("{field}.{name}[{index}].{problem}"))
            })
            .collect()
        }
        Ok(ContainerEdits {
            env: self.env.unwrap_or_default(),
            nodes: all(field, "deviceNodes", self.device_nodes, WireNode::check)?,
            mounts: all(field, "mounts", self.mounts, WireMount::check)?,
            hooks: all(field, "hooks", self.hooks, WireHook::check)?,
            gids: self.additional_gids.unwrap_or_default(),
            intel_rdt: self
                .intel_rdt
                .map(WireRdt::check)
                .transpose()
                .map_err(|problem| format!("{field}.intelRdt.{problem}"))?,
            net_devices: self.net_devices.is_some_and(|devices| !devices.is_empty()),
        })
    }
}

fn absolute(field: &str, path: &str) -> Result<(), String> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(format!(
            "{field}: `{}` is not absolute",
            path.escape_debug()
        )),
    }
}

impl WireNode {
    fn check(self) -> Result<Node, String> {
        absolute("path", &self.path)?;
        let host_path = match self.host_path.as_str() {
            "" => self.path.clone(),
            path => {
                absolute("hostPath", path)?;
                self.host_path
            }
        };
        let kind = match self.kind.as_str() {
            "" => None,
            "b" => Some(LinuxDeviceType::B),
            "c" | "u" => Some(LinuxDeviceType::C),
            "p" => Some(LinuxDeviceType::P),
            other => {
                return Err(format!(
                    "type: `{}` is none of b, c, u, p",
                    other.escape_debug()
                ));
            }
        };
        if self
            .permissions
            .chars()
            .any(|letter| !"rwm".contains(letter))
        {
            return Err("permissions: there are letters other than r, w and m".to_owned());
        }
        let access = match self.permissions.as_str() {
            "" => "rwm".to_owned(),
            _ => self.permissions,
        };
        Ok(Node {
            path: self.path,
            host_path,
            kind,
            numbers: (self.major != 0).then_some((self.major, self.minor)),
            mode: self.file_mode,
            uid: self.uid,
            gid: self.gid,
            access,
        })
    }
}

impl WireMount {
    fn check(self) -> Result<Mount, String> {
        if self.host_path.is_empty() {
            return Err("hostPath: it is empty".to_owned());
        }
        absolute("containerPath", &self.container_path)?;
        let kind = match self.kind.as_str() {
            "" => "bind".to_owned(),
            _ => self.kind,
        };
        Ok(Mount {
            source: self.host_path,
            destination: self.container_path,
            kind,
            options: self.options.unwrap_or_default(),
        })
    }
}

impl WireHook {
    fn check(self) -> Result<(HookStep, Hook), String> {
        let step = HookStep::of(&self.hook_name)
            .ok_or_else(|| format!("hookName: `{}` is no hook", self.hook_name.escape_debug()))?;
        absolute("path", &self.path)?;
        if self.timeout.is_some_and(|seconds| seconds <= 0) {
            return Err("timeout: it is not above 0".to_owned());
        }
        let mut hook = Hook::default();
        hook.set_path(self.path.into());
        hook.set_args(self.args);
        hook.set_env(self.env);
        hook.set_timeout(self.timeout);
        Ok((step, hook))
    }
}

impl WireRdt {
    // runc before 1.3 and CDI before 1.1.0 know the older two.
    #[allow(deprecated)]
    fn check(self) -> Result<LinuxIntelRdt, String> {
        let id = &self.clos_id;
        if id.len() >= 4096 || matches!(id.as_str(), "." | "..") || id.contains(['/', '\n']) {
            return Err("closID: it is no name of a directory".to_owned());
        }
        let mut rdt = LinuxIntelRdt::default();
        rdt.set_clos_id(Some(self.clos_id).filter(|id| !id.is_empty()));
        rdt.set_l3_cache_schema(self.l3_cache_schema);
        rdt.set_mem_bw_schema(self.mem_bw_schema);
        rdt.set_schemata(self.schemata);
        rdt.set_enable_monitoring(self.enable_monitoring);
        rdt.set_enable_cmt(self.enable_cmt);
        rdt.set_enable_mbm(self.enable_mbm);
        Ok(rdt)
    }
}
