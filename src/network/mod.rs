//! Pod networks by CNI: configuration, plugin execution, cached attachments, readiness.

mod bandwidth;
mod error;
mod pod;

use std::{net::IpAddr, path::PathBuf, time::Duration};

pub use bandwidth::{Bandwidth, NotABandwidth};
pub use error::{Command, ConfigProblem, MissingPlugin, NetworkError, NotReady, PluginFailure};
pub use pod::{Dns, Pod, PortMapping, Protocol};

/// The name of a pod's interface, as kubelet and every plugin expect it.
pub const INTERFACE: &str = "eth0";

/// What the daemon's configuration says about the network.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Network configurations (`network_dir`).
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order (`plugin_dirs`).
    pub plugin_dirs: Vec<PathBuf>,
    /// Attachments are recorded below `<cache_dir>/results` (CNI's default is `/var/lib/cni`).
    pub cache_dir: PathBuf,
    /// Where pods' network namespaces are pinned. A cached attachment is ours, and may be swept,
    /// if its namespace lies below it: other tools share the cache.
    pub netns_dir: PathBuf,
    /// The network to use (`cni_default_network`); `None` is the first one in `conf_dir`.
    pub default_network: Option<String>,
    /// Time for one pod's ADD, all plugins together.
    pub add_timeout: Duration,
    /// Time for one pod's DEL, all plugins together.
    pub del_timeout: Duration,
    /// How many pods may be attached at once; as many may be detached at the same time.
    pub concurrency: usize,
}

/// A pod's network, once it has one.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The pod's addresses, in the order of the result. The first is the primary one. Not empty.
    pub ips: Vec<IpAddr>,
    /// The result in a 1.x form of the CNI specification.
    pub result: serde_json::Value,
    /// How long each plugin took, in order.
    pub plugins: Vec<(String, Duration)>,
}
