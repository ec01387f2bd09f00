//! The pod's life: namespaces, files, network and cgroup.
//!
//! A pod has no process of its own unless its containers share a PID namespace: its namespaces are
//! pinned by bind mounts. Every object that a pod has in the kernel is named after its id, so
//! `teardown` needs nothing but the record to undo all of it, whatever a crash left. What is
//! in a pod's containers, `container/` knows; this room starts and ends them with the pod.

mod annotations;
mod create;
mod dial;
mod events;
mod files;
mod in_flight;
mod labels;
mod metrics;
mod namespaces;
mod pause;
mod pins;
mod ports;
mod record;
mod remove;
mod restore;
mod stats;
mod stop;
mod validate;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use events::Event;
pub use metrics::PodMetrics;
pub use namespaces::{netns_dir, unpin};
pub use pins::pinned;
pub use record::{Phase, PodConfig, Record};
pub use stats::{PodNetwork, PodStats};

use crate::cgroup::{CgroupError, Cgroups, History};
use crate::container::{self, ContainerError, Containers};
use crate::network::{NetworkError, Networks, NotReady};
use crate::runtime::{Handlers, RuntimeError};
use crate::security::selinux::{Selinux, SelinuxError};
use crate::security::users::UserError;
use crate::spec::config::Resources;
use crate::spec::inputs::PodFiles;
use crate::spec::{self, SpecError};
use crate::state::{
    Happening, Id, LookupError, Operations, PodName, RecordError, Recorded, Records, RunDir, Table,
    Told,
};
use crate::sys::ShuttingDown;

/// What the configuration says about pods.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parent of the directories in which namespaces are pinned (`namespaces_dir`).
    pub namespaces_dir: PathBuf,
    /// The pause program.
    pub pause: PathBuf,
    /// What this machine and the daemon's process on it can do.
    pub host: spec::inputs::Host,
    /// Processors of pause processes, in list format (`infra_ctr_cpuset`); empty: all.
    pub pause_cpuset: String,
    /// Kernel parameters of every pod, below those that the pod asks for (`default_sysctls`).
    pub default_sysctls: BTreeMap<String, String>,
    /// SELinux, where the node has it and pods are to be separated by it.
    pub selinux: Option<Arc<Selinux>>,
    /// Whether processes of pods on the node's network have no label
    /// (`hostnetwork_disable_selinux`).
    pub host_network_without_selinux: bool,
    /// How old a sample of what a pod uses may be (`collection_period`); zero: taken anew for each
    /// call.
    pub stats_max_age: Duration,
    /// Whether what happens can be followed (`enable_pod_events`).
    pub events: bool,
    /// Whether host ports are left to the CNI plugins (`disable_hostport_mapping`).
    pub host_ports_by_cni: bool,
}

/// The rooms that pods are made of.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Where volatile files are.
    pub run_dir: RunDir,
    /// The OCI runtimes.
    pub handlers: Arc<Handlers>,
    /// Control groups.
    pub cgroups: Arc<Cgroups>,
    /// CNI.
    pub networks: Arc<Networks>,
    /// What runs in pods.
    pub containers: Arc<Containers>,
}

/// All pods of the node.
#[derive(Debug)]
pub struct Sandboxes {
    settings: Settings,
    rooms: Rooms,
    records: Records<Record>,
    table: Table<PodName, Sandbox>,
    runs: Operations<PodName, Id, SandboxError>,
    stops: Operations<Id, (), SandboxError>,
    removals: Operations<Id, (), SandboxError>,
    events: events::Events,
}

/// One pod. What is known of it is replaced as a whole, so a reader sees no half of a change.
#[derive(Debug)]
pub struct Sandbox {
    record: Recorded<Record>,
    /// What the rates of its use are computed from.
    history: History,
    /// What of its life has been announced.
    told: Told,
}

impl Sandbox {
    /// What is known of the pod now.
    pub fn record(&self) -> Arc<Record> {
        self.record.get()
    }

    fn must_be_ready(&self) -> Result<(), SandboxError> {
        let record = self.record();
        match record.phase {
            Phase::Ready => Ok(()),
            Phase::Making | Phase::NotReady => Err(SandboxError::NotReady {
                id: record.id.clone(),
            }),
        }
    }
}

impl Sandboxes {
    /// No pods yet; [`restore`](Self::restore) finds those of an earlier daemon.
    ///
    /// # Errors
    /// When the directory of the records cannot be made.
    pub fn open(settings: Settings, rooms: Rooms) -> Result<Arc<Self>, SandboxError> {
        let records = Records::open(rooms.run_dir.sandboxes(), rooms.run_dir.quarantine())?;
        let this = Arc::new(Self {
            events: events::Events::new(settings.events),
            settings,
            rooms,
            records,
            table: Table::default(),
            runs: Operations::new("run sandbox"),
            stops: Operations::new("stop sandbox"),
            removals: Operations::new("remove sandbox"),
        });
        this.follow_containers();
        Ok(this)
    }

    /// All pods that are made, ordered by id.
    pub fn all(&self) -> Vec<Arc<Sandbox>> {
        self.table.all()
    }

    /// The pod of an id or a unique prefix of one.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, prefix: &str) -> Result<Arc<Sandbox>, SandboxError> {
        Ok(self.table.find(prefix)?)
    }

    /// The ready pod of an id or a unique prefix of one.
    ///
    /// # Errors
    /// When there is none, or more than one, or it was stopped.
    pub fn ready(&self, prefix: &str) -> Result<Arc<Sandbox>, SandboxError> {
        let sandbox = self.find(prefix)?;
        sandbox.must_be_ready()?;
        Ok(sandbox)
    }

    /// The containers' rooms of this node.
    pub fn containers(&self) -> &Arc<Containers> {
        &self.rooms.containers
    }

    /// Creates a container in the pod of an id or a unique prefix of one. The same call again, by
    /// a client that did not wait for the answer, gets the same container.
    ///
    /// # Errors
    /// When there is no such pod, it is not ready, or the container cannot be created.
    pub async fn create_container(
        self: &Arc<Self>,
        prefix: &str,
        config: container::Config,
    ) -> Result<Id, Arc<SandboxError>> {
        let sandbox = self.find(prefix).map_err(Arc::new)?;
        let this = Arc::clone(self);
        // In a task of its own: a client that goes away must not keep it from the last check.
        let creation = tokio::spawn(async move { this.create_in(&sandbox, config).await });
        creation
            .await
            .unwrap_or_else(|_| Err(SandboxError::from(ShuttingDown)))
            .map_err(Arc::new)
    }

    async fn create_in(
        &self,
        sandbox: &Sandbox,
        config: container::Config,
    ) -> Result<Id, SandboxError> {
        let record = sandbox.record();
        sandbox.must_be_ready()?;
        let containers = &self.rooms.containers;
        let created = containers.create(self.pod(&record)?, config).await;
        let id = created.map_err(SandboxError::Container)?;
        // A stop marks the pod before it looks for containers, so either it has seen this one, or
        // this sees the mark.
        if let Err(stopped) = sandbox.must_be_ready() {
            containers
                .remove(id.as_str())
                .await
                .map_err(SandboxError::Container)?;
            return Err(stopped);
        }
        Ok(id)
    }

    /// The pod as its containers need to know it.
    fn pod(&self, record: &Record) -> Result<container::Pod, SandboxError> {
        Ok(container::Pod {
            id: record.id.clone(),
            name: record.config.name.clone(),
            handler: self.rooms.handlers.get(&record.handler)?,
            log_directory: record.config.log_directory.clone(),
            cgroup_parent: record.config.cgroup_parent.clone(),
            annotations: record.config.annotations.clone(),
            selinux: record.selinux.clone(),
            spec: self.spec_of(record),
        })
    }

    /// The pod as specs of its processes need to know it.
    fn spec_of(&self, record: &Record) -> spec::inputs::Pod {
        let directory = self.rooms.run_dir.sandbox(&record.id);
        let name = &record.config.name;
        let files = PodFiles {
            resolv_conf: Some(directory.join(files::RESOLV_CONF)),
            hostname: Some(directory.join(files::HOSTNAME)),
            // The kubelet brings one for a pod with a network of its own.
            hosts: (!record.own_network()).then(|| "/etc/hosts".into()),
            containerenv: None,
            shm: record
                .namespaces
                .ipc
                .is_some()
                .then(|| directory.join(files::SHM)),
        };
        spec::inputs::Pod {
            id: record.id.to_string(),
            full_name: name.to_string(),
            name: name.name.clone(),
            namespace: name.namespace.clone(),
            uid: name.uid.clone(),
            hostname: record.hostname.clone(),
            // As each container sees them.
            annotations: BTreeMap::new(),
            allowed_annotations: Vec::new(),
            privileged: record.config.security.privileged,
            namespaces: record.config.security.namespaces.clone(),
            userns: record.namespaces.user.clone(),
            netns: record.namespaces.network.clone(),
            ipcns: record.namespaces.ipc.clone(),
            utsns: record.namespaces.uts.clone(),
            pidns: record
                .pause
                .map(|pause| format!("/proc/{}/ns/pid", pause.pid).into()),
            target_pidns: None,
            files,
            // Set when the namespaces were made.
            sysctls: BTreeMap::new(),
            cni_result: record.cni_result.as_ref().map(ToString::to_string),
            ips: record.ips.iter().map(ToString::to_string).collect(),
        }
    }

    /// The facts behind a pod as JSON, for people: with CRI-O's keys and what CNI answered.
    pub fn describe(&self, record: &Record) -> serde_json::Value {
        serde_json::json!({
            "pid": record.pause.map_or(0, |pause| pause.pid),
            "runtimeHandler": record.handler,
            "namespaces": record.namespaces,
            "cniResult": record.cni_result,
            "overhead": record.config.overhead,
            "resources": record.config.resources,
        })
    }

    /// Notes what the kubelet says that the pod of an id or a unique prefix of one may use: it has
    /// set that on the pod's cgroup itself. What is `None` stays as it was.
    ///
    /// # Errors
    /// When there is no such pod, or its record cannot be written.
    pub fn note_resources(
        &self,
        prefix: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<(), SandboxError> {
        let sandbox = self.find(prefix)?;
        self.update(&sandbox, |record| {
            let config = &mut record.config;
            config.overhead = overhead.or(config.overhead.take());
            config.resources = resources.or(config.resources.take());
        })
    }

    /// Changes what is known of a pod, on disk first.
    fn update(
        &self,
        sandbox: &Sandbox,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), SandboxError> {
        Ok(sandbox
            .record
            .update(&self.records, &sandbox.record().id, change)?)
    }

    /// Makes a fact known whether or not it can be written down: what has ended has ended, also when
    /// the disk is full.
    fn note(&self, sandbox: &Sandbox, change: impl FnOnce(&mut Record)) {
        let id = sandbox.record().id.clone();
        if let Err(error) = sandbox.record.note(&self.records, &id, change) {
            tracing::error!(%id, %error, "known, but not written down");
        }
    }

    /// Makes a pod visible to everyone, of which everything up to `told` is known already.
    fn publish(&self, record: Record, told: Option<Happening>) -> Arc<Sandbox> {
        let (id, name) = (record.id.clone(), record.config.name.clone());
        let name = (!record.half_made).then_some(name);
        let sandbox = Arc::new(Sandbox {
            record: Recorded::new(record),
            history: History::default(),
            told: Told::up_to(told),
        });
        self.table.insert(id, name, Arc::clone(&sandbox));
        sandbox
    }
}

/// A pod could not be made, stopped or removed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No pod, or more than one, has this id.
    #[error("pod sandbox {0}")]
    Lookup(#[from] LookupError),
    /// What was asked for cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field of the CRI message.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A pod of this name exists that is not what was asked for.
    #[error("pod sandbox {name} exists already as {id}, which has been stopped; remove it first")]
    Exists {
        /// The name.
        name: PodName,
        /// The pod that has it.
        id: Id,
    },
    /// Containers can be created only in a pod that is ready.
    #[error("pod sandbox {id} is not ready: it was stopped, or its pause process has ended")]
    NotReady {
        /// The pod.
        id: Id,
    },
    /// A file system call failed.
    #[error("{step} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pod's handler or the kernel cannot do what the pod needs.
    #[error(
        "userns_options: runtime handler `{handler}` cannot run pods with a user namespace: {needs}"
    )]
    NoUserNamespaces {
        /// The handler.
        handler: String,
        /// What is needed and not there.
        needs: &'static str,
    },
    /// The root of a pod with a user namespace cannot get to the pause process's files.
    #[error(
        "{}: only root may pass this directory, and the root of a pod with a user namespace has to; \
         allow it (chmod o+x)", path.display()
    )]
    Unreachable {
        /// The directory above them.
        path: PathBuf,
    },
    /// The kernel refused a user namespace.
    #[error(
        "make a user namespace: {source}; the node may allow fewer of them than it has \
         (/proc/sys/user/max_user_namespaces)"
    )]
    UserNamespace {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a parameter.
    #[error("set kernel parameter {name} to `{value}`: {source}")]
    Sysctl {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pause process ended before its containers could join it.
    #[error("the pause process ended as soon as it was started")]
    PauseEnded,
    /// A port of the pod cannot be reached.
    #[error(
        "connect to port {port} in pod sandbox {id}: {source}; does something listen there, on 127.0.0.1 or ::1?"
    )]
    Dial {
        /// The pod.
        id: Id,
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No pod can have a network now.
    #[error("{0}")]
    NetworkNotReady(#[from] NotReady),
    /// The network of this pod could not be made or removed.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// SELinux labels cannot be, or not be given.
    #[error("{0}")]
    Selinux(#[from] SelinuxError),
    /// The user of the pause process cannot be.
    #[error("{0}")]
    User(#[from] UserError),
    /// The spec of the pause process cannot be built.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// The OCI runtime or the pause process's monitor did not work.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// A control group could not be made or removed.
    #[error("{0}")]
    Cgroup(#[from] CgroupError),
    /// The record could not be written or read.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// A container of the pod stood in the way.
    #[error("{0}")]
    Container(Arc<ContainerError>),
    /// It could not be stopped, which has to come first.
    #[error("{0}")]
    NotStopped(Arc<SandboxError>),
    /// A blocking task was stopped, which happens only while the daemon ends.
    #[error("{0}")]
    ShuttingDown(#[from] ShuttingDown),
}

impl From<LookupError> for Arc<SandboxError> {
    fn from(error: LookupError) -> Self {
        Arc::new(SandboxError::Lookup(error))
    }
}

impl SandboxError {
    /// Makes the error of a file system call on `path` from the kernel's answer.
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }
}
