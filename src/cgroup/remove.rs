//! Removing cgroups, with all that a container made below its own.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::error::CgroupError;
use super::kill;
use super::path::{CgroupPath, Parent, directory};
use super::{Cgroups, Hierarchy, tree};

/// How long a removal waits for processes that have been killed to be gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first pause when a cgroup is busy though no process is listed, and how far it doubles.
/// Since Linux 6.19 a dead task leaves its cgroup a moment after its parent has seen it dead, and
/// nothing tells when.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// How many processes a message names.
const NAMED: usize = 16;

impl Cgroups {
    /// Removes a cgroup and all below it from every hierarchy. Idempotent; one that does not
    /// exist is fine. Waits up to a second for dying processes, but kills none: a cgroup that is
    /// in use stays and is reported.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        self.remove_directory(&directory(path)?)
    }

    /// Removes what the OCI runtime left of a container's cgroup.
    pub fn remove_container(&self, parent: &str, id: &str) -> Result<(), CgroupError> {
        self.remove(&self.container_path(parent, id)?)
    }

    /// Removes the pod's own cgroup; never the pod's, which is the kubelet's.
    pub fn remove_sandbox(&self, parent: &str, sandbox_id: &str) -> Result<(), CgroupError> {
        self.remove_directory(&Parent::parse(self.manager, parent)?.sandbox(sandbox_id)?)
    }

    /// Removes the cgroup of a monitor that has ended. systemd removes its scopes itself.
    pub fn remove_monitor(&self, parent: &str, id: &str) -> Result<(), CgroupError> {
        match Parent::parse(self.manager, parent)?.monitor(id)? {
            Some(path) => self.remove_directory(&path),
            None => Ok(()),
        }
    }

    fn remove_directory(&self, path: &CgroupPath) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        // Every hierarchy is tried, the first fault is told.
        let faults = self
            .hierarchies
            .iter()
            .map(|each| remove_in(each, path, deadline));
        faults.fold(Ok(()), Result::and)
    }
}

fn remove_in(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    deadline: Instant,
) -> Result<(), CgroupError> {
    let (parent, name) = path.split();
    let Some(parent) = hierarchy.enter(parent.unwrap_or("."))? else {
        return Ok(());
    };
    let mut pause = PAUSE.0;
    loop {
        if remove_once(parent.as_fd(), name, hierarchy, path)? {
            return Ok(());
        }
        let Some(dir) = hierarchy.enter(path.as_str())? else {
            return Ok(());
        };
        let emptied = kill::wait_empty(hierarchy, dir.as_fd(), path, deadline)?;
        if Instant::now() >= deadline {
            let mut pids = hierarchy.processes(dir.as_fd(), path)?;
            pids.truncate(NAMED);
            return Err(CgroupError::Busy {
                path: tree::shown(hierarchy, path),
                pids,
            });
        }
        if emptied == kill::Emptied::Already {
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

/// True if the cgroup is gone, false if something lives in it.
fn remove_once(
    parent: BorrowedFd<'_>,
    name: &str,
    hierarchy: &Hierarchy,
    path: &CgroupPath,
) -> Result<bool, CgroupError> {
    let remove = || match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY) => Ok(false),
        Err(errno) => Err(hierarchy.fault(path.as_str(), "removing it", errno)),
    };
    if remove()? {
        return Ok(true);
    }
    // Busy also means: there are cgroups in it.
    let Some(dir) = hierarchy.enter(path.as_str())? else {
        return Ok(true);
    };
    Ok(hierarchy.remove_below(dir.as_fd(), path)? && remove()?)
}
