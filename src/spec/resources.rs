//! The `linux.resources` section, without devices.
//!
//! Zero means "leave it" in the CRI, so it is left out. Memory and swap follow the OCI's sense of
//! `swap`: memory and swap together.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use super::config::{HugepageLimit, Resources};
use super::error::SpecError;
use super::inputs::{Host, Settings};

/// The section for a container: what the kubelet asked for, and the configured limit of pids.
pub(super) fn resources(
    wanted: &Resources,
    settings: &Settings,
    host: &Host,
) -> Result<LinuxResources, SpecError> {
    let mut resources = limits(wanted, settings, host)?;
    if settings.pids_limit > 0 {
        let mut pids = LinuxPids::default();
        pids.set_limit(settings.pids_limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

/// CFS periods that the kernel takes (`min_bw_quota_period_ns`, `max_bw_quota_period_us`).
pub(super) const PERIODS_US: RangeInclusive<u64> = 1_000..=1_000_000;
/// CFS quotas that the kernel takes (`MAX_BW`).
pub(super) const QUOTAS_US: RangeInclusive<u64> = 1_000..=(1 << 44) - 1;
/// Shares that the kernel takes on v1 (`MAX_SHARES`); it makes 2 of 1. On v2 the OCI runtime makes
/// weights of the same range.
pub(super) const SHARES: RangeInclusive<u64> = 1..=262_144;

/// The kubelet's limits alone, in the words of the OCI: also what `runc update` is given.
pub fn limits(
    wanted: &Resources,
    settings: &Settings,
    host: &Host,
) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResources::default();
    resources.set_cpu(cpu(wanted)?);
    resources.set_memory(memory(wanted, settings, host)?);
    resources.set_hugepage_limits(hugepages(&wanted.hugepage_limits, host)?);
    resources.set_unified(unified(&wanted.unified, host)?);
    Ok(resources)
}

fn cpu(wanted: &Resources) -> Result<Option<LinuxCpu>, SpecError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(within("cpu_period", wanted.cpu_period, PERIODS_US)?);
    cpu.set_shares(within("cpu_shares", wanted.cpu_shares, SHARES)?);
    if wanted.cpu_quota != -1 {
        within("cpu_quota", wanted.cpu_quota, QUOTAS_US)?;
    }
    cpu.set_quota(Some(wanted.cpu_quota).filter(|quota| *quota != 0));
    cpu.set_cpus(list("cpuset_cpus", &wanted.cpuset_cpus)?);
    cpu.set_mems(list("cpuset_mems", &wanted.cpuset_mems)?);
    Ok(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
}

/// A value that the kernel takes; 0 leaves it.
fn within(field: &str, value: i64, range: RangeInclusive<u64>) -> Result<Option<u64>, SpecError> {
    match positive(field, value)? {
        Some(value) if !range.contains(&value) => Err(SpecError::invalid(
            format!("resources.{field}"),
            format!(
                "{value} is not between {} and {}",
                range.start(),
                range.end()
            ),
        )),
        value => Ok(value),
    }
}

fn positive(field: &str, value: i64) -> Result<Option<u64>, SpecError> {
    let value = u64::try_from(value).map_err(|_| negative(field, value))?;
    Ok(Some(value).filter(|value| *value != 0))
}

fn negative(field: &str, value: i64) -> SpecError {
    SpecError::invalid(
        format!("resources.{field}"),
        format!("{value} is not possible"),
    )
}

/// A list of CPUs or memory nodes, `0-3,7` (cpuset(7)); the kernel checks the numbers.
pub(super) fn list(field: &str, text: &str) -> Result<Option<String>, SpecError> {
    let known =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b' ' | b':' | b'/');
    match text.bytes().all(known) {
        true => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        false => Err(SpecError::invalid(
            format!("resources.{field}"),
            format!("{text:?} is not a list such as 0-3,7"),
        )),
    }
}

fn memory(
    wanted: &Resources,
    settings: &Settings,
    host: &Host,
) -> Result<Option<LinuxMemory>, SpecError> {
    let (limit, swap) = (
        wanted.memory_limit_in_bytes,
        wanted.memory_swap_limit_in_bytes,
    );
    for (field, value) in [
        ("memory_limit_in_bytes", limit),
        ("memory_swap_limit_in_bytes", swap),
    ] {
        if value < -1 {
            return Err(negative(field, value));
        }
    }
    if limit > 0 && limit < settings.container_min_memory {
        return Err(SpecError::invalid(
            "resources.memory_limit_in_bytes",
            format!(
                "{limit} is less than {}, which the OCI runtime needs to start a container",
                settings.container_min_memory
            ),
        ));
    }
    if swap > 0 && limit > 0 && swap < limit {
        return Err(SpecError::invalid(
            "resources.memory_swap_limit_in_bytes",
            format!("{swap} is less than the memory limit {limit}, of which it is a part"),
        ));
    }
    if swap > 0 && limit <= 0 {
        let problem = "needs a memory limit";
        return Err(SpecError::invalid(
            "resources.memory_swap_limit_in_bytes",
            problem,
        ));
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(limit).filter(|limit| *limit != 0));
    if host.swap_accounting {
        // no swap, unless asked for; an unlimited limit takes its swap along
        memory.set_swap(Some(if swap == 0 { limit } else { swap }).filter(|swap| *swap != 0));
    }
    Ok(Some(memory).filter(|memory| *memory != LinuxMemory::default()))
}

/// One for each page size of the node, mostly 0; without the controller there is no page to
/// limit.
fn hugepages(
    wanted: &[HugepageLimit],
    host: &Host,
) -> Result<Option<Vec<LinuxHugepageLimit>>, SpecError> {
    let mut limits = Vec::new();
    for (index, limit) in wanted.iter().enumerate() {
        if !is_page_size(&limit.page_size) {
            return Err(SpecError::invalid(
                format!("resources.hugepage_limits[{index}].page_size"),
                format!("{:?} is not of the form 2MB", limit.page_size),
            ));
        }
        let mut oci = LinuxHugepageLimit::default();
        oci.set_page_size(limit.page_size.clone());
        // the kernel's counter ends at 2^63 as well
        oci.set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        limits.push(oci);
    }
    Ok(Some(limits).filter(|limits| host.hugetlb && !limits.is_empty()))
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty() && number.len() < 8 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn unified(
    wanted: &BTreeMap<String, String>,
    host: &Host,
) -> Result<Option<HashMap<String, String>>, SpecError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    if !host.cgroup_v2 {
        return Err(SpecError::invalid(
            "resources.unified",
            "needs cgroup v2 on the node",
        ));
    }
    for key in wanted.keys() {
        // a file of the container's own cgroup, and nothing above it
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !key.contains('.') || key.starts_with('.') || !key.bytes().all(plain) {
            let problem = format!("{key:?} is not a cgroup v2 file such as memory.high");
            return Err(SpecError::invalid("resources.unified", problem));
        }
    }
    Ok(Some(wanted.clone().into_iter().collect()))
}
