//! Pod networks by CNI: configuration, plugin execution, cached attachments, readiness. Ports of the
//! node that lead to pods (`hostport`).
//!
//! `Networks` is the door. It knows the configured networks, watches for changes, attaches pods
//! (`attach`) and detaches them (`detach`) by running external plugins, and keeps a record of each
//! attachment from before its first side effect until it is undone (`cache`). It leaves to others:
//! making and pinning network namespaces and bringing up `lo` in them (sandbox), what a pod is and
//! what becomes of its addresses (sandbox), and which attachments are still wanted.
//!
//! ```text
//!   conf_dir, plugin_dirs ──watch──▶ current: catalog ──▶ readiness ◀── STATUS (whole)
//!                                          │ default network
//!   attach / detach ──admission──▶ chain of plugins ──▶ plugin processes
//!            │
//!          cache: <cache_dir>/results
//! ```
//!
//! A stuck plugin holds up its own pod: until its deadline, when it and its children are killed.
//! `readiness` never waits for any of this.

mod admission;
mod attach;
mod bandwidth;
mod bounded;
mod cache;
mod catalog;
mod chain;
mod config;
mod counters;
mod current;
mod detach;
mod error;
mod hostport;
mod leftover;
mod lost;
mod netlink;
mod plugin;
mod pod;
mod result;
mod version;
mod watch;
mod whole;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

pub use admission::InFlight;
pub use bandwidth::Bandwidth;
pub use counters::Interface;
pub use error::{NetworkError, NotReady};
pub use hostport::{Former, HostPorts, Owner};
pub use pod::{Dns, Pod, PortMapping, Protocol};

use admission::Admission;
use cache::Cache;
use counters::Counters;
use current::Current;
use error::Command;
use watch::Watcher;

/// The name of a pod's interface, as kubelet and every plugin expect it.
pub const INTERFACE: &str = "eth0";

/// Where everything is, and how long things may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Network configurations (`network_dir`).
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order (`plugin_dirs`).
    pub plugin_dirs: Vec<PathBuf>,
    /// Attachments are recorded below `<cache_dir>/results` (CNI's default is `/var/lib/cni`).
    pub cache_dir: PathBuf,
    /// Where pods' network namespaces are pinned, by sandbox id. That is how an attachment in the
    /// cache is known to be ours, and may be swept: other tools share the cache.
    pub netns_dir: PathBuf,
    /// Which daemon this is, by its run root: another one may have the same cache and namespaces.
    pub instance: PathBuf,
    /// The network to use (`cni_default_network`); `None` is the first one in `conf_dir`.
    pub default_network: Option<String>,
    /// Time for one pod's ADD, all plugins together; as long again it may wait for its turn.
    pub add_timeout: Duration,
    /// Time for one pod's DEL, all plugins together; as long again it may wait for its turn.
    pub del_timeout: Duration,
    /// The table of nf_tables for host ports, in family `inet`.
    pub host_ports_table: String,
    /// How long plugins that were ready may say that they are not, before that counts
    /// (`cni_status_grace_period`).
    pub status_grace: Duration,
    /// How many pods may be attached at once; as many may be detached at the same time.
    pub concurrency: usize,
}

/// A pod's network, once it has one.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The pod's addresses, in the order of the result. The first is the primary one. Not empty.
    pub ips: Vec<IpAddr>,
    /// The result in a 1.x form of the CNI specification.
    pub result: Value,
}

/// The networks of the node.
#[derive(Debug)]
pub struct Networks {
    settings: Settings,
    current: Arc<Current>,
    admission: Arc<Admission>,
    cache: Cache,
    counters: Counters,
    host_ports: Arc<HostPorts>,
    health: whole::Health,
    _watcher: Option<Watcher>,
}

impl Networks {
    /// Reads the configuration and begins to watch it. Never fails: what is missing or wrong is
    /// the reason why the network is not ready.
    pub fn open(settings: Settings) -> Arc<Self> {
        let current = Arc::new(Current::read(&settings));
        let this = Arc::new(Self {
            admission: Admission::new(settings.concurrency),
            cache: Cache::new(settings.cache_dir.clone()),
            counters: Counters::default(),
            host_ports: HostPorts::new(settings.host_ports_table.clone()),
            _watcher: Watcher::start(Arc::clone(&current)),
            current,
            health: whole::Health::default(),
            settings,
        });
        // Without a runtime there is only somebody who looks at what was left.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(whole::follow(Arc::downgrade(&this)));
        }
        this
    }

    /// Whether pods can get a network now. From memory.
    pub fn readiness(&self) -> Result<(), NotReady> {
        self.health.of(&self.current.default_network()?)
    }

    /// Waits until pods can get a network, for at most `patience`.
    pub async fn ready(&self, patience: Duration) -> Result<(), NotReady> {
        if self.readiness().is_err() {
            let wait = async {
                self.refresh().await;
                self.current
                    .until(patience, |catalog| catalog.default.is_ok())
                    .await;
                self.health
                    .until(patience, || self.readiness().is_ok())
                    .await;
            };
            // Reading the disk is a part of the wait.
            let _ = tokio::time::timeout(patience, wait).await;
        }
        self.readiness()
    }

    /// Ports of the node that lead to pods.
    pub fn host_ports(&self) -> &Arc<HostPorts> {
        &self.host_ports
    }

    /// What is under way, oldest first. From memory.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.admission.in_flight()
    }

    /// What the interfaces of a pinned network namespace have carried, without loopback. A few
    /// system calls; they can wait for whoever configures a network at the time.
    ///
    /// # Errors
    /// When the namespace is not there or the kernel cannot tell.
    pub fn counters(&self, netns: &Path) -> Result<Vec<Interface>, NetworkError> {
        self.counters.of(netns)
    }

    /// Reads the configuration now.
    async fn refresh(&self) {
        let current = Arc::clone(&self.current);
        // It fails only when the runtime is going down, and then nobody waits for the result.
        let _ = tokio::task::spawn_blocking(move || current.refresh()).await;
    }
}

/// Runs an operation as a task of its own, so that it ends whoever waits for it.
async fn owned<T: Send + 'static>(
    sandbox_id: String,
    command: Command,
    operation: impl Future<Output = Result<T, NetworkError>> + Send + 'static,
) -> Result<T, NetworkError> {
    tokio::spawn(operation)
        .await
        .unwrap_or(Err(NetworkError::Stopped {
            sandbox_id,
            command,
        }))
}

/// Runs what blocks on the disk.
async fn off_thread<T: Send + 'static>(
    sandbox_id: &str,
    command: Command,
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let sandbox_id = sandbox_id.to_owned();
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(NetworkError::Stopped {
            sandbox_id,
            command,
        }))
}
