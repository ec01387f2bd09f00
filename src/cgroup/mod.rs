//! Control groups: where a pod, a container and a monitor live, and what they use.
//!
//! ```text
//! <cgroup_parent>                    the pod; made, limited and removed by the kubelet
//!   crio-<sandbox id>                the pod's own, without a process unless it needs a pause
//!   crio-<container id>              made and removed by the OCI runtime
//!   crio-conmon-<container id>       the container's monitor
//! ```
//!
//! Under systemd the pod is a slice, a container the scope `crio-<id>.scope` in it, which the OCI
//! runtime asks systemd for, and a monitor `crio-conmon-<id>.scope`, which this room asks it for,
//! in `system.slice` unless `monitor_cgroup` says otherwise.
//!
//! The names are CRI-O's, for cAdvisor finds pods and containers by them. Every path is a function
//! of the pod's parent and an id, so nothing has to be remembered to clean up.
//!
//! This room makes, fills, kills and removes cgroups and reads their figures. Limits are not its
//! business: the OCI runtime sets them for containers, the kubelet for pods. All calls are
//! synchronous. Those that can wait ([`Cgroups::kill`], [`Cgroups::remove`]) belong in a blocking
//! task; the others are a handful of system calls on a file system without a disk.
//!
//! Paths come from the kubelet and cgroups below a container's may have been made by the
//! container, so nothing is opened by a joined path: `openat2` below the mount point, without
//! symlinks, or one name at a time relative to an open directory.

mod claim;
mod error;
mod kill;
mod layout;
mod no_memory;
mod path;
mod place;
mod remove;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod tree;
mod units;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use claim::{Named, id_of};
pub use error::CgroupError;
pub use path::Manager;
pub use stats::{
    CpuStats, History, IoStats, MemoryStats, Pressure, Sample, Stall, Stats, StatsReader,
    Throttling,
};

use layout::{Controller, Kind, Mount};
use path::Parent;
use systemd::Systemd;

/// Which version of control groups holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// cgroup v1, alone or beside a cgroup2 mount without controllers (hybrid).
    V1,
    /// cgroup v2.
    V2,
}

/// What the host can limit and account for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers {
    /// Processor time.
    pub cpu: bool,
    /// Processors and memory nodes.
    pub cpuset: bool,
    /// Memory; off on some ARM boards until `cgroup_enable=memory` is on the kernel command line.
    pub memory: bool,
    /// Swap, apart from memory.
    pub swap: bool,
    /// Tasks.
    pub pids: bool,
    /// Block devices.
    pub io: bool,
    /// Huge pages.
    pub hugetlb: bool,
}

/// One hierarchy, open.
#[derive(Debug)]
struct Hierarchy {
    /// Where it is mounted, for messages.
    point: PathBuf,
    /// The mount point; all paths are relative to it.
    root: OwnedFd,
    /// Controllers on it that matter to us.
    controllers: Vec<Controller>,
    /// It is the cgroup2 hierarchy.
    unified: bool,
    /// It has no controllers and a name: systemd's.
    named: bool,
    /// The daemon's own cgroup is the root.
    own_is_root: bool,
    /// How it was found, to look up the own cgroup again.
    mount: Mount,
}

impl Hierarchy {
    fn holds(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

/// The host's control groups.
#[derive(Debug)]
pub struct Cgroups {
    version: Version,
    manager: Manager,
    hierarchies: Vec<Hierarchy>,
    controllers: Controllers,
    /// What the cgroups that we make are marked with; empty: with nothing.
    mark: String,
    /// systemd, for what it makes.
    systemd: Systemd,
}

/// systemd makes this directory when it is PID 1 (sd_booted(3)).
const SYSTEMD_BOOTED: &str = "/run/systemd/system";

impl Cgroups {
    /// Finds out how the host mounts its cgroups and opens each hierarchy.
    pub fn detect(manager: Manager) -> Result<Cgroups, CgroupError> {
        if manager == Manager::Systemd && !std::path::Path::new(SYSTEMD_BOOTED).is_dir() {
            return Err(CgroupError::NoSystemd);
        }
        let mounts = layout::parse_mountinfo(&tree::read_proc("/proc/self/mountinfo")?);
        Cgroups::open(manager, mounts)
    }

    fn open(manager: Manager, mounts: Vec<Mount>) -> Result<Cgroups, CgroupError> {
        if mounts.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        let controlled = |mount: &Mount| {
            matches!(&mount.kind, Kind::Legacy(names)
                if names.split(',').any(|name| Controller::parse(name).is_some()))
        };
        let version = if mounts.iter().any(controlled) {
            Version::V1
        } else {
            Version::V2
        };
        let own = tree::read_proc("/proc/self/cgroup")?;
        let hierarchies = mounts
            .into_iter()
            .map(|mount| tree::open_hierarchy(mount, &own))
            .collect::<Result<Vec<_>, _>>()?;
        // On a hybrid host the cgroup2 mount offers controllers that nobody has mounted on v1. An OCI
        // runtime does not use them there.
        let used = |each: &&Hierarchy| version == Version::V2 || !each.unified;
        let has = |controller| {
            hierarchies
                .iter()
                .filter(used)
                .any(|each| each.holds(controller))
        };
        let controllers = Controllers {
            cpu: has(Controller::Cpu),
            cpuset: has(Controller::Cpuset),
            memory: has(Controller::Memory),
            swap: hierarchies.iter().filter(used).any(tree::accounts_swap),
            pids: has(Controller::Pids),
            io: has(Controller::Io),
            hugetlb: has(Controller::Hugetlb),
        };
        Ok(Cgroups {
            version,
            manager,
            hierarchies,
            controllers,
            mark: String::new(),
            systemd: Systemd::of_host(),
        })
    }

    /// Which version of control groups holds the controllers.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the host can limit and account for.
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Checks `linux.cgroup_parent` of a new pod: whether it can be used, and is one of this manager.
    /// Before anything is made for the pod.
    pub fn check_parent(&self, parent: &str) -> Result<(), CgroupError> {
        Parent::for_new(self.manager, parent).map(drop)
    }

    /// `linux.cgroupsPath` of the OCI spec for a container (or pause) of a pod with this
    /// `linux.cgroup_parent`; also for pods that were made when another manager was configured.
    pub fn container_path(&self, parent: &str, id: &str) -> Result<String, CgroupError> {
        Parent::parse(self.manager, parent)?.container(id)
    }

    /// Whether containers of a pod with this parent are scopes of systemd's, which their OCI runtime
    /// has to be told: what the pod was made with counts, not what is configured now.
    pub fn is_by_systemd(&self, parent: &str) -> Result<bool, CgroupError> {
        Ok(Parent::parse(self.manager, parent)?.slice().is_some())
    }

    /// The pod's own cgroup path, for the statistics of the pod. An empty parent names the
    /// default parent, which all pods without one share.
    pub fn pod_path(&self, parent: &str) -> Result<String, CgroupError> {
        Ok(Parent::parse(self.manager, parent)?.path.to_string())
    }

    /// A sample of everything that the cgroup and those below it use.
    pub fn stats(&self, path: &str) -> Result<Stats, CgroupError> {
        self.reader(path)?.sample_all()
    }

    /// A sample of what the kubelet asks for every few seconds: processor time, memory, swap,
    /// tasks and pressure of the cgroup and those below it.
    pub fn usual_stats(&self, path: &str) -> Result<Stats, CgroupError> {
        StatsReader::open(self, &path::directory(path)?, false)?.sample()
    }

    /// Opens a cgroup for repeated samples.
    pub fn reader(&self, path: &str) -> Result<StatsReader, CgroupError> {
        StatsReader::open(self, &path::directory(path)?, true)
    }
}
