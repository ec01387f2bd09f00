//! Everything that is measured of a container, for whoever draws graphs: asked for less often than
//! `stats`, and more costly.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Container, ContainerError, Containers, Record};
use crate::cgroup::Stats;
use crate::storage::Usage;
use crate::sys::clock;

/// The most processes of one container whose open files are counted; of one with more none are.
const MAX_PROCESSES: usize = 1024;
/// The most open files of one container that are counted; of one with more none are.
const MAX_FILES: u64 = 65_536;
/// The longest `/proc/<pid>/limits` that is read; it has 1.3 KiB.
const MAX_LIMITS: u64 = 16 << 10;

/// What is measured beyond the cgroup's own figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its processes and their open files.
    pub processes: bool,
    /// The file system of its writable layer.
    pub disk: bool,
}

/// Everything that was measured of one container.
#[derive(Debug, Clone)]
pub struct ContainerMetrics {
    /// The container.
    pub record: Arc<Record>,
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
    /// All figures of its cgroup.
    pub stats: Stats,
    /// Its processes; `None` when not asked for.
    pub processes: Option<Processes>,
    /// Its writable layer and where that lies; `None` when not asked for, or there is none.
    pub disk: Option<Disk>,
}

/// The processes of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// What they have open; `None` beyond the bounds.
    pub files: Option<Files>,
    /// How many files its first process may have open, by its soft limit; `None`: unlimited, or
    /// not known.
    pub files_limit: Option<u64>,
}

/// Open files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// All descriptors.
    pub all: u64,
    /// Those that are sockets.
    pub sockets: u64,
}

/// A writable layer and the file system that it lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of the layer, as measured last.
    pub used_bytes: u64,
    /// Bytes of the whole file system.
    pub limit_bytes: u64,
    /// Inodes of the whole file system.
    pub inodes: u64,
    /// Those of them that are free.
    pub inodes_free: u64,
}

impl Containers {
    /// Measures those of some containers that live. One that ends meanwhile is left out.
    pub fn measure(&self, containers: &[Arc<Container>], extent: Extent) -> Vec<ContainerMetrics> {
        let living = containers.iter().map(|container| container.record());
        living
            .filter(|record| record.is_alive())
            .filter_map(|record| self.measure_one(record, extent).ok())
            .collect()
    }

    fn measure_one(
        &self,
        record: Arc<Record>,
        extent: Extent,
    ) -> Result<ContainerMetrics, ContainerError> {
        let cgroups = &self.rooms.cgroups;
        let path = cgroups.container_path(&record.cgroup_parent, record.id.as_str())?;
        let stats = cgroups.stats(&path)?;
        let processes = if extent.processes {
            let init = record.init.map(|init| init.pid);
            Some(processes(&cgroups.processes(&path)?, init))
        } else {
            None
        };
        let layer = || self.rooms.store.root_usage(record.id.as_str());
        let disk = extent.disk.then(layer).flatten().and_then(disk);
        Ok(ContainerMetrics {
            at_ns: clock::now_ns(),
            stats,
            processes,
            disk,
            record,
        })
    }
}

fn processes(pids: &[u32], init: Option<i32>) -> Processes {
    let limit = init.and_then(|pid| {
        let mut text = String::new();
        let file = fs::File::open(format!("/proc/{pid}/limits")).ok()?;
        file.take(MAX_LIMITS).read_to_string(&mut text).ok()?;
        files_limit(&text)
    });
    Processes {
        count: u64::try_from(pids.len()).unwrap_or(u64::MAX),
        files: (pids.len() <= MAX_PROCESSES)
            .then(|| open_files(pids))
            .flatten(),
        files_limit: limit,
    }
}

/// Counts what the processes have open. One that has ended meanwhile has nothing open.
fn open_files(pids: &[u32]) -> Option<Files> {
    let mut files = Files::default();
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            files.all += 1;
            if files.all > MAX_FILES {
                return None;
            }
            let target = fs::read_link(entry.path()).unwrap_or_default();
            files.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    Some(files)
}

/// The soft limit of open files in `/proc/<pid>/limits`.
fn files_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn disk(layer: Usage) -> Option<Disk> {
    let whole = rustix::fs::statvfs(Path::new(&layer.mountpoint)).ok()?;
    Some(Disk {
        used_bytes: layer.bytes,
        limit_bytes: whole.f_blocks.saturating_mul(whole.f_frsize),
        inodes: whole.f_files,
        inodes_free: whole.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_and_sockets_are_counted_and_a_process_that_is_gone_has_none() {
        let before = open_files(&[std::process::id(), u32::MAX]).unwrap();
        let pair = std::os::unix::net::UnixStream::pair().unwrap();
        let after = open_files(&[std::process::id()]).unwrap();
        drop(pair);
        // Other tests of this process open and close theirs meanwhile.
        assert!(before.all >= 3 && after.all >= 5, "{before:?} {after:?}");
        assert!(after.sockets >= 2, "{after:?}");
        assert_eq!(open_files(&[u32::MAX]), Some(Files::default()));
        let init = i32::try_from(std::process::id()).unwrap();
        assert_eq!(
            processes(&[u32::MAX; MAX_PROCESSES + 1], Some(init)).files,
            None
        );
        assert!(processes(&[], Some(init)).files_limit.is_some());
    }

    #[test]
    fn the_soft_limit_of_open_files_is_found_and_unlimited_is_none() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 4096                 files     \n";
        assert_eq!(files_limit(text), Some(1024));
        assert_eq!(files_limit(&text.replace("1024", "unlimited")), None);
        assert_eq!(files_limit(""), None);
        assert_eq!(files_limit("Max open files"), None);
    }
}
