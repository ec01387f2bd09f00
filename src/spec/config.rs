//! What the kubelet asks for: a container's configuration in the terms of the CRI.
//!
//! `cri/` converts its messages into these types, `container/` keeps them in its records (they
//! are plain serde types for that reason), and the sections of this room turn them into an OCI
//! configuration. They hold what was asked, never what it means here: paths are as sent, names
//! are not looked up. A zero value means what the CRI says a zero value means, so a container
//! without a security context is `Security::default()`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::security::users::GroupsPolicy;

/// One container as the kubelet wants it (CRI `ContainerConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// `metadata.name`: the container's name in its pod.
    pub name: String,
    /// `metadata.attempt`: how often the kubelet has made this container before.
    pub attempt: u32,
    /// The image as asked for.
    pub image: ImageSpec,
    /// Replaces the image's entrypoint; its Cmd is dropped then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's Cmd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The working directory; empty takes the image's.
    pub working_dir: String,
    /// Environment, later entries win, all of them win over the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub envs: Vec<EnvVar>,
    /// Volumes and files, in the kubelet's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Device nodes of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Fully qualified CDI device names (`vendor.com/class=name`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cdi_devices: Vec<String>,
    /// Labels, returned byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Annotations, returned byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// The log file relative to the pod's log directory; empty means no log.
    pub log_path: String,
    /// Keep a pipe open on standard input.
    pub stdin: bool,
    /// Close standard input when the first attached client leaves.
    pub stdin_once: bool,
    /// Run on a pseudo terminal.
    pub tty: bool,
    /// `linux.resources`; absent when the client sent none.
    pub resources: Option<Resources>,
    /// `linux.security_context`.
    pub security: Security,
    /// The signal that asks the container to end (`SIGTERM`); absent takes the image's.
    pub stop_signal: Option<String>,
}

/// An image as a client names it (CRI `ImageSpec`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    /// Name, digest or id; the kubelet sends the id that PullImage returned.
    pub image: String,
    /// Annotations of the request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The text of the pod specification.
    pub user_specified_image: String,
    /// The handler the image was pulled for.
    pub runtime_handler: String,
    /// The digest reference of an image volume.
    pub image_ref: String,
}

/// One environment variable. The value is bytes in the CRI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// The name.
    pub key: String,
    /// The value; anything but UTF-8 is refused when the OCI configuration is built, because
    /// JSON cannot carry it.
    #[serde(with = "text_or_bytes")]
    pub value: Vec<u8>,
}

/// How mounts made later on one side show on the other (CRI `MountPropagation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    /// Neither side sees the other's later mounts.
    #[default]
    Private,
    /// The container sees what the host mounts later.
    HostToContainer,
    /// Both see the other's.
    Bidirectional,
}

/// One mount of a host path, or of an image, into the container (CRI `Mount`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where it appears in the container, as sent.
    pub container_path: String,
    /// What it shows of the host, as sent; empty only for an image volume.
    pub host_path: String,
    /// Read-only (this mount alone; see `recursive_read_only`).
    pub readonly: bool,
    /// Read-only including every mount below; needs `readonly` and private propagation.
    pub recursive_read_only: bool,
    /// Propagation of later mounts.
    pub propagation: Propagation,
    /// Give the host path the container's SELinux label.
    pub selinux_relabel: bool,
    /// Id mapping of an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Id mapping of an idmapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// An image instead of a host path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,
    /// A directory of that image instead of its root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_sub_path: String,
    /// `noexec`, `nodev`, `nosuid` (CRI 0.37).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
}

/// A range of user or group ids outside and inside a user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id on the host.
    pub host_id: u32,
    /// First id in the container.
    pub container_id: u32,
    /// How many ids.
    pub length: u32,
}

/// A device node, or a directory of them (CRI `Device`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The path in the container.
    pub container_path: String,
    /// The path on the host.
    pub host_path: String,
    /// A subset of `rwm`; empty means all three.
    pub permissions: String,
}

/// Limits of the container's cgroup and its OOM score (CRI `LinuxContainerResources`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CFS period, microseconds; 0 leaves it.
    pub cpu_period: i64,
    /// CFS quota, microseconds per period; 0 leaves it, -1 is unlimited.
    pub cpu_quota: i64,
    /// Relative CPU weight, 2 to 262144; 0 leaves it.
    pub cpu_shares: i64,
    /// Memory limit, bytes; 0 leaves it.
    pub memory_limit_in_bytes: i64,
    /// Memory and swap together, bytes; 0 allows no swap when there is a memory limit.
    pub memory_swap_limit_in_bytes: i64,
    /// OOM score adjustment, -1000 to 1000.
    pub oom_score_adj: i64,
    /// CPUs in list format; empty inherits.
    pub cpuset_cpus: String,
    /// Memory nodes in list format; empty inherits.
    pub cpuset_mems: String,
    /// One limit per huge page size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Files of cgroup v2 and their content; they win over the fields above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// The limit for one size of huge pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Who the container runs as and what it may do (CRI `LinuxContainerSecurityContext`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Capabilities on top of, or taken from, the configured base.
    pub capabilities: Capabilities,
    /// Nearly everything the host's root may do.
    pub privileged: bool,
    /// The container's namespaces; absent takes the pod's.
    pub namespaces: Option<NamespaceOptions>,
    /// SELinux label parts; absent takes the pod's.
    pub selinux: Option<SelinuxOptions>,
    /// User id; wins over the image's USER.
    pub run_as_user: Option<i64>,
    /// Group id; needs a user.
    pub run_as_group: Option<i64>,
    /// User name or number; empty means unset. Wins over `run_as_user`.
    pub run_as_username: String,
    /// Mount the root filesystem read-only.
    pub readonly_rootfs: bool,
    /// Further groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<i64>,
    /// Whether the image's /etc/group adds to them.
    pub supplemental_groups_policy: GroupsPolicy,
    /// Set no_new_privs on the process.
    pub no_new_privs: bool,
    /// Paths hidden from the container; empty hides none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths made read-only; empty makes none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// Seccomp profile; absent means unconfined.
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor profile; absent means the default one, where there is one.
    pub apparmor: Option<SecurityProfile>,
    /// The older way to name it; `apparmor` wins.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub apparmor_profile: String,
}

/// The pod's own security context (CRI `LinuxSandboxSecurityContext`): it is the truth about the
/// namespaces that containers share, and applies to the pause process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSecurity {
    /// The pod's namespaces.
    pub namespaces: NamespaceOptions,
    /// SELinux label parts.
    pub selinux: Option<SelinuxOptions>,
    /// User id of the pause process.
    pub run_as_user: Option<i64>,
    /// Group id of the pause process; needs a user.
    pub run_as_group: Option<i64>,
    /// Always true for our pause process.
    pub readonly_rootfs: bool,
    /// Further groups of the pause process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<i64>,
    /// Whether /etc/group adds to them (pause has none).
    pub supplemental_groups_policy: GroupsPolicy,
    /// The pod may hold privileged containers.
    pub privileged: bool,
    /// Seccomp profile of the pause process.
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor profile of the pause process.
    pub apparmor: Option<SecurityProfile>,
}

/// Capability names as sent: with or without `CAP_`, in any case, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Added to the base list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Taken from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Added to all five sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_ambient: Vec<String>,
}

/// Whose namespace is used (CRI `NamespaceMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// The pod's.
    #[default]
    Pod,
    /// One of the container's own.
    Container,
    /// The host's.
    Node,
    /// Another container's (pid only).
    Target,
}

/// Which namespaces are shared with whom (CRI `NamespaceOption`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOptions {
    /// Network: pod or node.
    pub network: NamespaceMode,
    /// Processes: all four.
    pub pid: NamespaceMode,
    /// System V IPC, POSIX queues and /dev/shm: pod or node.
    pub ipc: NamespaceMode,
    /// The container of `pid: target`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_id: String,
    /// User namespace; absent is the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<UserNamespace>,
}

/// A user namespace (CRI `UserNamespace`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// Node (none) or pod.
    pub mode: NamespaceMode,
    /// Exactly one range for mode pod.
    pub uids: Vec<IdMapping>,
    /// Exactly one range for mode pod.
    pub gids: Vec<IdMapping>,
}

/// The ids of a pod's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mappings {
    /// User ids; id 0 of the container is the first.
    pub uids: IdMapping,
    /// Group ids; id 0 of the container is the first.
    pub gids: IdMapping,
}

impl NamespaceOptions {
    /// The ids of the user namespace that is asked for; none for the host's. Needs a checked
    /// request: what is wrong in it is passed over here.
    pub fn mappings(&self) -> Option<Mappings> {
        let userns = self.userns.as_ref()?;
        match (userns.mode, userns.uids.first(), userns.gids.first()) {
            (NamespaceMode::Pod, Some(&uids), Some(&gids)) => Some(Mappings { uids, gids }),
            _ => None,
        }
    }
}

/// A seccomp or AppArmor profile (CRI `SecurityProfile`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityProfile {
    /// The runtime's own.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile of the node: a file for seccomp, a loaded profile's name for AppArmor.
    Localhost(String),
}

/// Parts of an SELinux label (CRI `SELinuxOption`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxOptions {
    /// SELinux user.
    pub user: String,
    /// SELinux role.
    pub role: String,
    /// SELinux type.
    #[serde(rename = "type")]
    pub kind: String,
    /// MCS level.
    pub level: String,
}

/// Environment values in records: text where it is text, so that a record can be read with
/// `cat`, else a list of numbers, so that nothing is lost.
mod text_or_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(value) {
            Ok(text) => to.serialize_str(text),
            Err(_) => value.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Stored::deserialize(from)? {
            Stored::Text(text) => text.into_bytes(),
            Stored::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_its_record_with_text_and_with_bytes() {
        let config = ContainerConfig {
            name: "web".into(),
            envs: vec![
                EnvVar {
                    key: "TEXT".into(),
                    value: b"a=b\nc".to_vec(),
                },
                EnvVar {
                    key: "BYTES".into(),
                    value: vec![0xff, 0x00, 0x41],
                },
            ],
            security: Security {
                seccomp: Some(SecurityProfile::Localhost("/p.json".into())),
                namespaces: Some(NamespaceOptions::default()),
                ..Security::default()
            },
            ..ContainerConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""value":"a=b\nc""#), "{text}");
        assert_eq!(
            serde_json::from_str::<ContainerConfig>(&text).unwrap(),
            config
        );
    }

    #[test]
    fn a_record_without_a_field_reads_as_its_zero_value() {
        let config: ContainerConfig = serde_json::from_str(r#"{"name":"web"}"#).unwrap();
        assert_eq!(
            config,
            ContainerConfig {
                name: "web".into(),
                ..ContainerConfig::default()
            }
        );
    }
}
