//! What is known of a pod, in memory and in its record on disk (version 1).
//!
//! The record is written before the first side effect, so that a restarted daemon can finish or
//! undo whatever it finds; fields that this version does not know are kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::namespaces::Namespaces;
use crate::network::{Dns, PortMapping};
use crate::runtime::Program;
use crate::security::selinux::Labels;
use crate::spec::config::{NamespaceMode, Resources, SandboxSecurity};
use crate::state::{Id, PodName, Versioned};

/// What the kubelet asked for: `runtime.v1.PodSandboxConfig` in the domain's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodConfig {
    /// The pod's name, namespace and uid in Kubernetes, and how often its sandbox was made before.
    pub name: PodName,
    /// Host name; empty: the node's in a host-network pod, else the beginning of the id.
    pub hostname: String,
    /// Where logs of containers go; empty: no logs.
    pub log_directory: String,
    /// Name resolution; `None`: the node's.
    pub dns: Option<Dns>,
    /// Ports of the node that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Kubernetes labels, returned as given.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes annotations, returned as given.
    pub annotations: BTreeMap<String, String>,
    /// The pod's cgroup, made by the kubelet; empty: the daemon's own default.
    pub cgroup_parent: String,
    /// Namespaced kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Whose namespaces the pod has, and whether privileged containers may run in it.
    pub security: SandboxSecurity,
    /// What the pod uses beside its containers, as the kubelet last told it; shown, not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Resources>,
    /// The sum of its containers' limits, as the kubelet last told it and has set on the pod's
    /// cgroup itself; shown, not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// Where in its life a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being made: listed by nobody; after a restart it is undone.
    Making,
    /// Usable.
    Ready,
    /// Stopped, or its network or pause process is gone; it keeps its addresses until removed.
    NotReady,
}

/// The process that holds a shared PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Its pid, in the daemon's PID namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// A pod as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this layout.
    pub version: u32,
    /// The pod's id.
    pub id: Id,
    /// What was asked for.
    pub config: PodConfig,
    /// The handler's name as asked for; empty: the default.
    pub handler: String,
    /// When it was made, nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Where in its life it is.
    pub phase: Phase,
    /// Where its namespaces are pinned.
    pub namespaces: Namespaces,
    /// The host name that it has.
    pub hostname: String,
    /// Its addresses, the primary one first; kept when it has stopped.
    pub ips: Vec<IpAddr>,
    /// What CNI answered to ADD, in a 1.x form.
    pub cni_result: Option<serde_json::Value>,
    /// Whether CNI may hold something for it: set before ADD, cleared after DEL.
    pub attached: bool,
    /// Whether its host ports are the daemon's to forward; otherwise they are the CNI plugins'.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwards_ports: bool,
    /// Its SELinux labels, where the node separates pods by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Labels>,
    /// The process of its PID namespace, where containers share one.
    pub pause: Option<Pause>,
    /// The OCI runtime that its pause process was made by, and has to be ended by.
    pub runtime: Program,
    /// Whether something of it could not be undone, and stopping it has to try again.
    pub leftover: bool,
    /// Whether it was never made to the end and could not be undone: listed so that it is removed,
    /// and in nobody's way, for its name may have been given again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_made: bool,
    /// What a later version wrote.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Record {
    /// Whether a stopped pod has something in the kernel still, because its stop did not end.
    pub fn holds_anything(&self) -> bool {
        self.leftover
            || self.attached
            || self.pause.is_some()
            || self.namespaces != Namespaces::default()
    }

    /// Whether the pod has a network of its own.
    pub fn own_network(&self) -> bool {
        self.config.security.namespaces.network != NamespaceMode::Node
    }
}

impl Versioned for Record {
    const KIND: &'static str = "pod";
    const VERSION: u32 = 1;
    // That a pod was stopped nothing else tells.
    const KEEPS_SPARE: bool = true;

    fn version(&self) -> u32 {
        self.version
    }
}
