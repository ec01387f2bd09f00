//! Where the values of the metrics come from: one function a figure, `None` where the kernel has none.

use super::Put;
use crate::cgroup::{IoStats, MemoryStats, Pressure, Stall, Throttling};
use crate::container::{ContainerMetrics, Disk, Files, Phase};
use crate::spec::config::Resources;

pub(super) const NS_PER_SECOND: u64 = 1_000_000_000;
/// A memory limit from here on is none.
const UNLIMITED: i64 = 1 << 62;

#[allow(clippy::unnecessary_wraps, reason = "at the end of chains of options")]
pub(super) fn seconds(ns: u64) -> Option<u64> {
    Some(ns / NS_PER_SECOND)
}

pub(super) fn throttling(container: &ContainerMetrics) -> Option<Throttling> {
    container.stats.cpu.as_ref()?.throttling
}

pub(super) fn cpu_usage(container: &ContainerMetrics, put: &mut Put<'_>) {
    if let Some(cpu) = &container.stats.cpu {
        put(&["total"], cpu.usage_ns / NS_PER_SECOND);
    }
}

pub(super) fn disk(container: &ContainerMetrics) -> Option<Disk> {
    container.disk
}

pub(super) fn io(container: &ContainerMetrics, figure: fn(&IoStats) -> u64, put: &mut Put<'_>) {
    for io in container.stats.io.iter().flatten() {
        let (major, minor) = io.device;
        put(&[&format!("{major}:{minor}")], figure(io));
    }
}

pub(super) fn blkio(container: &ContainerMetrics, put: &mut Put<'_>) {
    for io in container.stats.io.iter().flatten() {
        let (major, minor) = (io.device.0.to_string(), io.device.1.to_string());
        let device = format!("{major}:{minor}");
        for (operation, bytes) in [("read", io.read_bytes), ("write", io.write_bytes)] {
            put(&[&device, &major, &minor, operation], bytes);
        }
    }
}

pub(super) fn hugetlb(container: &ContainerMetrics, put: &mut Put<'_>) {
    for pages in &container.stats.hugetlb {
        put(&[&pages.page_size], pages.usage_bytes);
    }
}

pub(super) fn hugetlb_peak(container: &ContainerMetrics, put: &mut Put<'_>) {
    for pages in &container.stats.hugetlb {
        if let Some(peak) = pages.peak_bytes {
            put(&[&pages.page_size], peak);
        }
    }
}

pub(super) fn memory(container: &ContainerMetrics) -> Option<&MemoryStats> {
    container.stats.memory.as_ref()
}

/// The kernel counts cgroups below a container's with it, so both scopes have the same value.
pub(super) fn faults(container: &ContainerMetrics, put: &mut Put<'_>) {
    let Some(memory) = memory(container) else {
        return;
    };
    for scope in ["container", "hierarchy"] {
        put(&["pgfault", scope], memory.page_faults);
        put(&["pgmajfault", scope], memory.major_page_faults);
    }
}

pub(super) fn cpu_pressure(container: &ContainerMetrics) -> Option<Pressure> {
    container.stats.cpu.as_ref()?.pressure
}

pub(super) fn full(pressure: Option<Pressure>) -> Option<u64> {
    let Stall { total_ns, .. } = pressure?.full;
    seconds(total_ns)
}

pub(super) fn some(pressure: Option<Pressure>) -> Option<u64> {
    let Stall { total_ns, .. } = pressure?.some;
    seconds(total_ns)
}

pub(super) fn files(container: &ContainerMetrics) -> Option<Files> {
    container.processes?.files
}

pub(super) fn ulimits(container: &ContainerMetrics, put: &mut Put<'_>) {
    if let Some(limit) = container.processes.and_then(|all| all.files_limit) {
        put(&["max_open_files"], limit);
    }
}

/// A field of the resources that the kubelet asked for; what says unlimited is 0, as cAdvisor's.
pub(super) fn asked(container: &ContainerMetrics, field: fn(&Resources) -> i64) -> Option<u64> {
    let value = field(container.record.config.resources.as_ref()?);
    let limited = (0..UNLIMITED).contains(&value);
    u64::try_from(if limited { value } else { 0 }).ok()
}

/// `memory.min` of cgroup v2, which is what keeps memory for a container.
pub(super) fn reservation(container: &ContainerMetrics) -> Option<u64> {
    let resources = container.record.config.resources.as_ref()?;
    let kept = resources.unified.get("memory.min");
    kept.map_or(Some(0), |bytes| bytes.trim().parse().ok())
}

pub(super) fn started(container: &ContainerMetrics) -> Option<u64> {
    let at_ns = match container.record.phase {
        Phase::Running { started_at_ns } => started_at_ns,
        _ => container.record.created_at_ns,
    };
    seconds(u64::try_from(at_ns).ok()?)
}
