//! What of pods and containers are units of systemd's: pods' slices, monitors' scopes, and what has
//! failed and waits to be forgotten.

use std::os::fd::AsFd;

use super::path::{self, CgroupPath, Manager, Parent};
use super::place::POD;
use super::systemd::{self, Scope};
use super::{CgroupError, Cgroups, SYSTEMD_BOOTED, error};

impl Cgroups {
    /// Whether monitors of a pod with this parent are put into scopes by
    /// [`scope_monitor`](Self::scope_monitor); else [`place_monitor`](Self::place_monitor) moves them.
    pub fn uses_scopes(&self, parent: &str) -> bool {
        let by_systemd = self.is_by_systemd(parent);
        by_systemd.unwrap_or(self.manager == Manager::Systemd)
    }

    /// Moves a container's monitor into a scope of its own, so that it outlives the daemon's unit.
    /// `setting` is `monitor_cgroup`: a slice, or `pod` for the pod's.
    ///
    /// systemd moves this one process; what it has started already stays behind.
    ///
    /// # Errors
    /// When systemd cannot be reached, refuses, or has not done it within its deadline.
    pub async fn scope_monitor(
        &self,
        pid: u32,
        id: &str,
        parent: &str,
        setting: &str,
    ) -> Result<(), CgroupError> {
        let parent = Parent::parse(self.manager, parent)?;
        let unfit = || CgroupError::MonitorCgroup {
            setting: error::quote(setting),
        };
        let slice = match setting {
            // A pod of the other manager's time has none.
            POD => parent.slice().unwrap_or(path::DEFAULT_SLICE),
            "" => path::DEFAULT_SLICE,
            slice => slice,
        };
        let directory = path::expand_slice(slice).map_err(|_| unfit())?;
        let unit = path::monitor_scope(id)?;
        let scope = Scope {
            unit: &unit,
            slice,
            pid,
        };
        self.systemd.start_scope(scope).await?;
        self.mark_scope(&directory.child(&unit));
        Ok(())
    }

    /// Whether a container's monitor, which is to be in a scope, is not: systemd was slow, or the
    /// daemon ended before it had asked. One that has ended misses nothing.
    pub fn misses_scope(&self, pid: u32, id: &str) -> bool {
        let scope = path::monitor_scope(id);
        scope.is_ok_and(|scope| systemd::is_outside(pid, &scope))
    }

    /// Has systemd start the slice of a new pod when it does not exist. A kubelet has made it before;
    /// other clients may name one that nobody has.
    ///
    /// # Errors
    /// When systemd cannot be reached, refuses, or has not done it within its deadline.
    pub async fn ensure_slice(&self, parent: &str) -> Result<(), CgroupError> {
        let parent = Parent::parse(self.manager, parent)?;
        let Some(slice) = parent.slice() else {
            return Ok(());
        };
        let settled = || self.exists(&parent.path);
        if settled() {
            return Ok(());
        }
        self.systemd.start_slice(slice, &settled).await
    }

    /// Makes systemd forget the scopes of a container or pod that somebody has ended past the OCI
    /// runtime: one in which the kernel had killed for lack of memory stays as failed.
    ///
    /// # Errors
    /// When systemd cannot be reached, or does not answer in time.
    pub async fn forget_scopes(&self, id: &str) -> Result<(), CgroupError> {
        let is_there = || std::path::Path::new(SYSTEMD_BOOTED).is_dir();
        if self.manager == Manager::Cgroupfs && !is_there() {
            return Ok(());
        }
        let container = self.systemd.forget(&path::container_scope(id)?).await;
        let monitor = self.systemd.forget(&path::monitor_scope(id)?).await;
        container.and(monitor)
    }

    fn exists(&self, path: &CgroupPath) -> bool {
        let mut all = self.hierarchies.iter();
        all.any(|each| matches!(each.enter(path.as_str()), Ok(Some(_))))
    }

    /// Scopes are known as ours by the mark too. Where the scope has gone meanwhile, so has its need.
    fn mark_scope(&self, path: &CgroupPath) {
        for hierarchy in self
            .hierarchies
            .iter()
            .filter(|each| each.unified || each.named)
        {
            if let Ok(Some(dir)) = hierarchy.enter(path.as_str()) {
                self.put_mark(dir.as_fd());
            }
        }
    }
}
