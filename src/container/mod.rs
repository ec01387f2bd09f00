//! The container's life: create, start, stop, exec, remove, restore.
//!
//! A container's truth is with its monitor: the daemon watches it over a socket and writes down
//! what it tells. Nothing here polls, and nothing that a read needs is locked while something
//! outside is waited for.

mod annotations;
mod announce;
mod archive;
mod attach;
mod backlog;
mod checkpoint;
mod create;
mod devices;
mod error;
mod exec;
mod exec_stream;
mod exec_sync;
mod exec_terminal;
mod image_users;
mod in_making;
mod inherited;
mod inspect;
mod metrics;
mod own_files;
mod pipes;
mod profiles;
mod pump;
mod record;
mod remove;
mod restore;
mod security;
mod sources;
mod start;
mod stats;
mod stop;
mod streams;
mod supervise;
mod trust;
mod undo;
mod update;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

pub use crate::spec::config::ContainerConfig as Config;
pub use devices::{NodeDevice, NodeDevices};
pub use error::ContainerError;
pub use exec_sync::ExecOutput;
pub use image_users::uses;
pub use metrics::{ContainerMetrics, Disk, Extent, Files};
pub use own_files::NodeFiles;
pub use profiles::Profiles;
pub use record::{Phase, Reason, Record, RunsAs};
pub use stats::ContainerStats;
pub use streams::{Input, Output, Streams, TerminalSize};
pub use volumes::DeclaredVolumes;

use crate::cdi::{self};
use crate::cgroup::{Cgroups, History};
use crate::hooks;
use crate::image::Images;
use crate::runtime::{Handler, Monitor};
use crate::security::apparmor::AppArmor;
use crate::security::seccomp::{self};
use crate::security::selinux::{Labels, Selinux};
use crate::spec::{self};
use crate::state::{
    ContainerName, Happening, Id, InFlight, Operations, PodName, Recorded, Records, RunDir, Table,
    Told,
};
use crate::storage::Store;
use crate::sys::fault;
use crate::sys::outside::Outside;

/// What the configuration and the host say about every container.
#[derive(Debug)]
pub struct Settings {
    /// What specs are built with.
    pub spec: spec::inputs::Settings,
    /// What this machine and the daemon's process on it can do.
    pub host: spec::inputs::Host,
    /// The machine that seccomp profiles are read for.
    pub seccomp_target: seccomp::Target,
    /// The default profiles, until [`Containers::set_profiles`] says otherwise.
    pub profiles: Profiles,
    /// AppArmor, where the node has it.
    pub apparmor: Option<AppArmor>,
    /// SELinux, where the node has it and pods are to be separated by it.
    pub selinux: Option<Arc<Selinux>>,
    /// CDI devices.
    pub cdi: cdi::Registry,
    /// The node's OCI hooks.
    pub hooks: hooks::Directories,
    /// What pods that carry an annotation get of the processors.
    pub workloads: Vec<spec::Workload>,
    /// Devices that the configuration gives.
    pub devices: NodeDevices,
    /// Files that the configuration gives.
    pub files: NodeFiles,
    /// Mount sources that are not to be created when they are missing.
    pub absent_sources_to_reject: Vec<PathBuf>,
    /// What becomes of the paths that images declare as volumes.
    pub declared_volumes: DeclaredVolumes,
    /// Whether OCI artifacts may be mounted as volumes (`oci_artifact_mount_support`).
    pub artifact_volumes: bool,
    /// How long a killed container may take to be gone, at the least (`ctr_stop_timeout`).
    pub kill_wait: Duration,
    /// How long the file system of a mount's source may take to tell about it
    /// (`mount_source_timeout`).
    pub mount_source_timeout: Duration,
    /// How old a sample of what a container uses may be (`collection_period`); zero: taken anew
    /// for each call.
    pub stats_max_age: Duration,
    /// Whether containers may be checkpointed (`enable_criu_support`, `container_level_enabled`).
    pub checkpoints: bool,
}

/// The rooms that containers are made of.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Where volatile files are.
    pub run_dir: RunDir,
    /// Control groups.
    pub cgroups: Arc<Cgroups>,
    /// Root filesystems.
    pub store: Store,
    /// What containers are made from.
    pub images: Arc<Images>,
}

/// All containers of the node.
#[derive(Debug)]
pub struct Containers {
    settings: Settings,
    profiles: ArcSwap<Profiles>,
    rooms: Rooms,
    records: Records<Record>,
    table: Table<ContainerName, Container>,
    creations: Operations<ContainerName, Id, ContainerError>,
    starts: Operations<Id, (), ContainerError>,
    stops: Operations<Id, (), ContainerError>,
    removals: Operations<Id, (), ContainerError>,
    followed: announce::Followed,
    in_making: image_users::InMaking,
    /// Where mount sources are looked at.
    outside: Outside,
    making: in_making::Creations,
    /// Whether criu works here, once it has been asked.
    criu: tokio::sync::OnceCell<Result<(), String>>,
}

/// One container. What is known of it is replaced as a whole, so a reader sees no half of a
/// change.
#[derive(Debug)]
pub struct Container {
    record: Recorded<Record>,
    /// When a stop in flight kills, lowered by whoever wants it sooner.
    kill_at: watch::Sender<Option<Instant>>,
    /// After the end: whether runtime state, root mount and cgroups could all be released.
    released: watch::Sender<Option<bool>>,
    /// Turns to run a command in it.
    commands: exec::Turns,
    /// Turns to attach to it.
    attachments: exec::Turns,
    /// What the rates of its use are computed from.
    history: History,
    /// What of its life has been announced.
    told: Told,
    /// Held by whoever has the runtime change the container: start, update, delete.
    turn: tokio::sync::Mutex<()>,
    /// Held by who writes a checkpoint, and by who removes what a killed daemon has left of one.
    /// Taken before `turn`.
    checkpointing: tokio::sync::Mutex<()>,
    /// Whether an update failed, so that the limits may not be those of the record.
    unsure_limits: AtomicBool,
}

/// A pod as its containers need to know it.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The pod's id.
    pub id: Id,
    /// Its name in Kubernetes.
    pub name: PodName,
    /// The OCI runtime of its containers.
    pub handler: Arc<Handler>,
    /// Where logs go; empty: no logs.
    pub log_directory: String,
    /// Its cgroup; empty: the default.
    pub cgroup_parent: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its SELinux labels, where the node separates pods by them.
    pub selinux: Option<Labels>,
    /// Its namespaces and files, and what annotations tell of it.
    pub spec: spec::inputs::Pod,
}

impl Container {
    fn new(record: Record, told: Option<Happening>) -> Self {
        Self {
            record: Recorded::new(record),
            kill_at: watch::Sender::new(None),
            released: watch::Sender::new(None),
            commands: exec::Turns::new(exec::MAX_COMMANDS),
            attachments: exec::Turns::new(attach::MAX_ATTACHMENTS),
            history: History::default(),
            told: Told::up_to(told),
            turn: tokio::sync::Mutex::default(),
            checkpointing: tokio::sync::Mutex::default(),
            unsure_limits: AtomicBool::new(false),
        }
    }

    /// What is known of the container now.
    pub fn record(&self) -> Arc<Record> {
        self.record.get()
    }

    /// Waits until the container has ended, and its record says how.
    async fn ended(&self) {
        self.record.until(|record| record.exit().is_some()).await;
    }
}

impl Containers {
    /// No containers yet; [`restore`](Self::restore) finds those of an earlier daemon.
    ///
    /// # Errors
    /// When the directory of the records cannot be made.
    pub fn open(mut settings: Settings, rooms: Rooms) -> Result<Arc<Self>, ContainerError> {
        let records = Records::open(rooms.run_dir.containers(), rooms.run_dir.quarantine())?;
        Ok(Arc::new(Self {
            profiles: ArcSwap::from_pointee(std::mem::take(&mut settings.profiles)),
            settings,
            rooms,
            records,
            table: Table::default(),
            creations: Operations::new("create container"),
            starts: Operations::new("start container"),
            stops: Operations::new("stop container"),
            removals: Operations::new("remove container"),
            followed: announce::Followed::default(),
            in_making: image_users::InMaking::default(),
            outside: Outside::default(),
            making: in_making::Creations::default(),
            criu: tokio::sync::OnceCell::new(),
        }))
    }

    /// All containers that are made, ordered by id.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.table.all()
    }

    /// All containers of a pod.
    pub fn of_pod(&self, pod: &Id) -> Vec<Arc<Container>> {
        self.all()
            .into_iter()
            .filter(|container| container.record().pod == *pod)
            .collect()
    }

    /// The running container of an id or a unique prefix of one, in which commands can be run.
    ///
    /// # Errors
    /// When there is none, or more than one, or it does not run.
    pub fn running(&self, prefix: &str) -> Result<Arc<Container>, ContainerError> {
        let container = self.find(prefix)?;
        let record = container.record();
        match record.phase {
            Phase::Running { .. } => Ok(container),
            Phase::Making | Phase::Created | Phase::Exited(_) => Err(ContainerError::NotRunning {
                id: record.id.clone(),
            }),
        }
    }

    /// The container of an id or a unique prefix of one.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, prefix: &str) -> Result<Arc<Container>, ContainerError> {
        Ok(self.table.find(prefix)?)
    }

    /// Makes the monitor of a running container open its log anew after a rotation.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or the log cannot be opened: nothing has
    /// changed then.
    pub async fn reopen_log(&self, prefix: &str) -> Result<(), ContainerError> {
        let record = self.running(prefix)?.record();
        self.monitor(&record.id).reopen_log().await?;
        fault::point("log.reopened");
        Ok(())
    }

    /// What is being done to containers now.
    pub fn in_flight(&self) -> Vec<InFlight> {
        let joined = [
            self.starts.in_flight(),
            self.stops.in_flight(),
            self.removals.in_flight(),
        ];
        let mut all = self.creations.in_flight();
        all.extend(joined.into_iter().flatten());
        all
    }

    fn monitor(&self, id: &Id) -> Monitor {
        Monitor::of(self.rooms.run_dir.container(id))
    }

    /// Changes what is known of a container, on disk first.
    fn update(
        &self,
        container: &Container,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), ContainerError> {
        Ok(container
            .record
            .update(&self.records, &container.record().id, change)?)
    }

    /// Makes a fact known whether or not it can be written down. Its monitor knows it too, and tells
    /// the next daemon.
    fn note(&self, container: &Container, change: impl FnOnce(&mut Record)) {
        let id = container.record().id.clone();
        if let Err(error) = container.record.note(&self.records, &id, change) {
            tracing::error!(%id, %error, "known, but not written down");
        }
    }

    /// Makes a container visible to everyone, of which everything up to `told` is known already.
    fn publish(&self, record: Record, told: Option<Happening>) -> Arc<Container> {
        let (id, name) = (record.id.clone(), record.name.clone());
        let name = (!record.half_made).then_some(name);
        let container = Arc::new(Container::new(record, told));
        self.table.insert(id, name, Arc::clone(&container));
        container
    }
}
