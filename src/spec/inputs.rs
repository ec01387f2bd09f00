//! Everything a container's OCI configuration is made of.
//!
//! This room does no I/O, so whatever must be read (the image's configuration, /etc/passwd of
//! the root, mount sources, device nodes, the daemon's own limits) is read by the caller and
//! stands here as a fact.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use super::config::{ContainerConfig, NamespaceOptions};
use super::workloads::Cpu;
use crate::cdi;
use crate::hooks::HookStep;
use crate::security::capabilities::CapSet;
use crate::security::seccomp::Profile;
use crate::security::selinux::Labels;
use crate::security::users::User;

/// What `spec::container` needs.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The container's full name, `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`.
    pub name: &'a str,
    /// What the kubelet asked for.
    pub config: &'a ContainerConfig,
    /// What the image says.
    pub image: &'a Image,
    /// The pod it runs in.
    pub pod: &'a Pod,
    /// Who it runs as: `spec::user_request`, looked up by `security::users` in the root.
    pub user: &'a User,
    /// The mounted root filesystem on the host, absolute.
    pub root: &'a Path,
    /// What was found at the mounts' host paths: one for each of `config.mounts`, in order.
    pub mount_sources: &'a [MountSource],
    /// Directories that are bound where the image declares volumes.
    pub declared_volumes: &'a [DeclaredVolume],
    /// What was found at the devices' host paths: for each of `config.devices`, in order, the
    /// nodes it stands for (one, or those of a directory).
    pub devices: &'a [Vec<DeviceNode>],
    /// All device nodes of the host that a privileged container gets. Not read for others.
    pub host_devices: &'a [DeviceNode],
    /// Device nodes that the node's configuration or an annotation of the pod gives, and what the
    /// container may do with each (letters of `rwm`).
    pub node_devices: &'a [(DeviceNode, String)],
    /// Hooks that the node's hook files give the container, in their order.
    pub hooks: &'a [(HookStep, Hook)],
    /// What the CDI devices of the container change.
    pub cdi: &'a cdi::Edits,
    /// SELinux labels; absent where the daemon does not separate containers by them.
    pub selinux: Option<&'a Labels>,
    /// Files and directories that the daemon made for the container, to be mounted into it.
    pub own_files: &'a [OwnFile],
    /// The cgroup, in the form that the runtime's driver wants.
    pub cgroups_path: &'a str,
    /// The seccomp profiles the container may end up with.
    pub seccomp: SeccompProfiles<'a>,
    /// The log file on the host; absent means no log.
    pub log_path: Option<&'a Path>,
    /// When the container was made, RFC 3339.
    pub created: &'a str,
    /// What the configuration says.
    pub settings: &'a Settings,
    /// What the machine and the daemon's own process can.
    pub host: &'a Host,
}

/// A file or directory of the daemon's making that is mounted into a container, unless the request
/// has a mount at its place or above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFile {
    /// Where in the container, clean and absolute.
    pub destination: String,
    /// Where on the host.
    pub source: PathBuf,
}

/// The parts of an image that a container inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// The image id, bare hex.
    pub id: String,
    /// The name a user knows it by.
    pub name: String,
    /// `name@sha256:…` when it has one, else the id.
    pub reference: String,
    /// `KEY=value` strings.
    pub env: Vec<String>,
    /// The image's entrypoint.
    pub entrypoint: Vec<String>,
    /// The image's Cmd.
    pub cmd: Vec<String>,
    /// The image's working directory.
    pub working_dir: String,
    /// The image's USER, `user[:group]`.
    pub user: String,
    /// The image's stop signal.
    pub stop_signal: Option<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
}

/// The pod, as its containers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The sandbox id.
    pub id: String,
    /// The sandbox's full name, `k8s_<pod>_<namespace>_<uid>_<attempt>`.
    pub full_name: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The hostname inside.
    pub hostname: String,
    /// The pod's annotations as this container sees them (`spec::effective_annotations`).
    pub annotations: BTreeMap<String, String>,
    /// `allowed_annotations` of the handler and of the pod's workload, as prefixes: what its author
    /// may ask for by annotations.
    pub allowed_annotations: Vec<String>,
    /// Whether the pod may hold privileged containers.
    pub privileged: bool,
    /// The pod's namespace options.
    pub namespaces: NamespaceOptions,
    /// Where the pod's user namespace is pinned; absent for the host's.
    pub userns: Option<PathBuf>,
    /// Where the pod's network namespace is pinned; absent for the host's.
    pub netns: Option<PathBuf>,
    /// Where its IPC namespace is pinned; absent for the host's.
    pub ipcns: Option<PathBuf>,
    /// Where its UTS namespace is pinned; absent for the host's.
    pub utsns: Option<PathBuf>,
    /// The PID namespace of its pause process (`/proc/<pid>/ns/pid`), where it has one.
    pub pidns: Option<PathBuf>,
    /// For a container with `pid: target`: the PID namespace of that container.
    pub target_pidns: Option<PathBuf>,
    /// resolv.conf, hostname and the like on the host.
    pub files: PodFiles,
    /// Sysctls that each container's start sets. Empty when the sandbox has set them itself.
    pub sysctls: BTreeMap<String, String>,
    /// The CNI result as JSON, for the tools that read it from the bundle.
    pub cni_result: Option<String>,
    /// The pod's IP addresses, primary first.
    pub ips: Vec<String>,
}

/// Files of the pod that are bind mounted into each container. An absent one is not mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFiles {
    /// Shown as /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Shown as /etc/hostname.
    pub hostname: Option<PathBuf>,
    /// Shown as /etc/hosts, unless the kubelet sends one: the host's, for a pod on its network.
    pub hosts: Option<PathBuf>,
    /// Shown as /run/.containerenv.
    pub containerenv: Option<PathBuf>,
    /// Shown as /dev/shm. A pod on the host's IPC namespace gets the host's whatever this says.
    pub shm: Option<PathBuf>,
}

/// What stands at the host path of a mount, or where its image is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSource {
    /// The path with every symbolic link resolved; the CRI wants the target mounted.
    pub path: PathBuf,
    /// Propagation of the mount that holds it (`/proc/self/mountinfo`, optional fields). It is
    /// looked at only for mounts that are not private.
    pub peers: Peers,
}

/// A directory for a path that the container's image declares as a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredVolume {
    /// The path as the image has it.
    pub destination: String,
    /// The directory on the host.
    pub source: PathBuf,
}

/// Propagation of a mount on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    /// Neither `shared:` nor `master:`.
    #[default]
    Private,
    /// `master:` alone.
    Slave,
    /// `shared:`.
    Shared,
}

/// One device node of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// The path in the container: the CRI's container path, or the node's own path for the
    /// devices of a privileged container.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The kinds of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// Seccomp profiles, read and parsed. An absent `default` means the configuration turned the
/// default profile off.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeccompProfiles<'a> {
    /// For `RuntimeDefault`.
    pub default: Option<&'a Profile>,
    /// The file of `Localhost`; must be there when the container asks for it.
    pub localhost: Option<&'a Profile>,
    /// For privileged containers (`privileged_seccomp_profile`); absent means none.
    pub privileged: Option<&'a Profile>,
}

/// A resource limit of the process (`default_ulimits`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `core`, …; with or without `RLIMIT_`, in any case.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// What the configuration (and the handler's part of it) says about every container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `default_env`, `KEY=value`: the lowest in rank.
    pub default_env: Vec<String>,
    /// `default_capabilities`.
    pub default_capabilities: CapSet,
    /// `add_inheritable_capabilities`.
    pub add_inheritable_capabilities: bool,
    /// `default_ulimits`.
    pub default_ulimits: Vec<Ulimit>,
    /// `pids_limit`; 0 and below mean unlimited.
    pub pids_limit: i64,
    /// `container_min_memory` of the handler, bytes.
    pub container_min_memory: i64,
    /// `read_only`: every root filesystem read-only, with tmpfs on /run, /tmp and /var/tmp.
    pub read_only: bool,
    /// `privileged_without_host_devices` of the handler.
    pub privileged_without_host_devices: bool,
    /// `device_ownership_from_security_context`.
    pub device_ownership_from_security_context: bool,
    /// The handler and the kernel can make mounts recursively read-only.
    pub recursive_read_only: bool,
    /// Where images and containers are stored: a mount of a directory above it is made slave, so
    /// that the container does not hold other containers' roots.
    pub storage_roots: Vec<PathBuf>,
    /// The AppArmor profile for containers without one, when it is loaded.
    pub apparmor_default: Option<String>,
}

/// What this machine, and the daemon's own process on it, can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The daemon's bounding set: more cannot be given to a container.
    pub bounding: CapSet,
    /// Containers live in cgroup v2.
    pub cgroup_v2: bool,
    /// The hugetlb controller is there.
    pub hugetlb: bool,
    /// Swap is accounted for (`memory.memsw.limit_in_bytes`, `memory.swap.max`).
    pub swap_accounting: bool,
    /// The daemon's own OOM score adjustment.
    pub own_oom_score_adj: i32,
    /// The daemon has CAP_SYS_RESOURCE, which lowering the adjustment below its own needs.
    pub can_lower_oom: bool,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// The longest argument or `KEY=value` that exec(2) takes, in bytes with the NUL at its end
    /// (MAX_ARG_STRLEN); absent: not known.
    pub longest_string: Option<usize>,
    /// Kernel version, major and minor: seccomp profiles have rules for newer ones.
    pub kernel: (u32, u32),
}

/// What `spec::pause` needs.
#[derive(Clone, Copy, Debug)]
pub struct PauseInputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// A directory that holds the pause binary alone.
    pub root: &'a Path,
    /// The binary's path in that directory, `/pause`.
    pub binary: &'a str,
    /// User and group, 0 unless the pod says otherwise.
    pub user: &'a User,
    /// The cgroup, in the form that the runtime's driver wants.
    pub cgroups_path: &'a str,
    /// SELinux label of the process; empty: none.
    pub selinux_label: &'a str,
    /// `infra_ctr_cpuset`; empty inherits.
    pub cpuset_cpus: &'a str,
    /// What the pod's workload gives it; wins over `cpuset_cpus`.
    pub cpu: &'a Cpu,
    /// When the sandbox was made, RFC 3339.
    pub created: &'a str,
    /// What the machine can.
    pub host: &'a Host,
}
