//! The cgroups of a run's nodes: by which driver, where pods' are, and what limits are in the kernel.

use std::fs;

use crate::cri::CgroupDriver;
use crate::leaks;

/// `systemd` has all nodes use that driver, on a machine that has systemd; otherwise cgroupfs.
const MANAGER: &str = "CRICKET_TEST_CGROUP_MANAGER";

/// The driver, as RuntimeConfig tells it.
pub fn driver() -> CgroupDriver {
    match std::env::var(MANAGER).as_deref() {
        Ok("systemd") => CgroupDriver::Systemd,
        Ok("cgroupfs") | Err(_) => CgroupDriver::Cgroupfs,
        Ok(other) => panic!("{MANAGER}: neither systemd nor cgroupfs: {other}"),
    }
}

/// The driver, as crio.conf calls it.
pub fn manager() -> &'static str {
    match driver() {
        CgroupDriver::Systemd => "systemd",
        CgroupDriver::Cgroupfs => "cgroupfs",
    }
}

/// The parent that a kubelet with this driver gives a pod whose like are below `top`.
pub fn pod_parent(top: &str, pod: &str) -> String {
    match driver() {
        // Each dash of a slice's name is one more slice above it.
        CgroupDriver::Systemd => format!("{top}-{}.slice", pod.replace('-', "_")),
        CgroupDriver::Cgroupfs => format!("{top}/pod-{pod}"),
    }
}

/// The memory limit of a container that the kernel keeps to, in bytes.
pub fn memory_limit(container: &str) -> Option<i64> {
    let named = leaks::cgroups_with(&[format!("crio-{container}")]);
    let files = ["memory.max", "memory.limit_in_bytes"];
    let texts = named
        .iter()
        .flat_map(|path| files.map(|name| path.join(name)));
    let limits = texts.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.min()
}
