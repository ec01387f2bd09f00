//! Making cgroups for a sandbox and a monitor, and moving the monitor into its own.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::error::{CgroupError, quote};
use super::layout::Controller;
use super::path::{Manager, Parent};
use super::{Cgroups, Hierarchy, Version, tree};

/// `monitor_cgroup`: the monitor is with its pod.
pub(super) const POD: &str = "pod";

impl Cgroups {
    /// Makes the pod's own cgroup, which stays without a process: cAdvisor (and so the kubelet)
    /// takes the pod's network figures from it. Not needed for a pod with a pause, whose OCI
    /// runtime makes it. Idempotent.
    ///
    /// On cgroup v1 it stands in one hierarchy only, the one with `cpu`: cAdvisor watches all of
    /// them and one sighting is enough; CRI-O makes twelve directories.
    pub fn create_sandbox(&self, parent: &str, sandbox_id: &str) -> Result<(), CgroupError> {
        // As CRI-O: without a slice from the kubelet there is no cAdvisor to please, and
        // system.slice is systemd's.
        if self.manager == Manager::Systemd && parent.is_empty() {
            return Ok(());
        }
        let path = Parent::parse(self.manager, parent)?.sandbox(sandbox_id)?;
        let with = |controller| self.hierarchies.iter().find(|each| each.holds(controller));
        let hierarchy = match self.version {
            Version::V2 => self.hierarchies.iter().find(|each| each.unified),
            Version::V1 => with(Controller::Cpu).or_else(|| with(Controller::Memory)),
        };
        let Some(hierarchy) = hierarchy else {
            return Err(CgroupError::NotMounted);
        };
        self.put_mark(hierarchy.ensure(&path)?.as_fd());
        Ok(())
    }

    /// With the cgroupfs manager: moves a container's monitor out of the daemon's cgroup, so that it outlives the daemon's
    /// unit and neither uses nor suffers the daemon's limits. `setting` is `monitor_cgroup`; with
    /// cgroupfs both `""` and `"pod"` mean a cgroup beside the container's, as in CRI-O.
    ///
    /// Before the monitor starts anything: what it has started already stays behind.
    ///
    /// Moving takes a lock that the kernel grants after an RCU grace period, up to 13 ms on an
    /// idle host and 25 µs each for what follows, here and in the OCI runtime, which moves the
    /// container's init the same way: the time is spent once.
    pub fn place_monitor(
        &self,
        pid: u32,
        id: &str,
        parent: &str,
        setting: &str,
    ) -> Result<(), CgroupError> {
        // A slice is for the monitors of pods by systemd.
        let is_odd = self.manager == Manager::Cgroupfs && !matches!(setting, "" | POD);
        if is_odd {
            return Err(CgroupError::MonitorCgroup {
                setting: quote(setting),
            });
        }
        let Some(path) = Parent::parse(self.manager, parent)?.monitor(id)? else {
            return Ok(());
        };
        for hierarchy in self
            .hierarchies
            .iter()
            .filter(|each| self.confines_monitor(each))
        {
            let dir = hierarchy.ensure(&path)?;
            self.put_mark(dir.as_fd());
            match tree::write_file(dir.as_fd(), c"cgroup.procs", &pid.to_string()) {
                Ok(()) => {}
                Err(Errno::SRCH) => {
                    return Err(CgroupError::NoProcess {
                        pid,
                        path: path.to_string(),
                    });
                }
                Err(errno) => {
                    let step = "moving the monitor into it";
                    return Err(hierarchy.fault(path.as_str(), step, errno));
                }
            }
        }
        Ok(())
    }

    /// True if a monitor has a reason to leave the daemon's cgroup in this hierarchy.
    ///
    /// On v2 always. On v1 each hierarchy costs a directory and a move (70 µs), so only those by
    /// which systemd follows processes and those with limits of the daemon's unit, and none in
    /// which the daemon is in the root anyway; but always memory, which is charged to the pod.
    fn confines_monitor(&self, hierarchy: &Hierarchy) -> bool {
        if self.version == Version::V2 {
            return hierarchy.unified;
        }
        let limited = hierarchy.unified
            || hierarchy.named
            || hierarchy.holds(Controller::Cpu)
            || hierarchy.holds(Controller::Pids);
        hierarchy.holds(Controller::Memory) || (limited && !hierarchy.own_is_root)
    }
}
