//! Reading a cgroup's figures again and again: the directories stay open, the files do not.
//!
//! A file that is kept open saves 3.5 µs of each reading and costs the kernel 4.5 KiB (measured,
//! Linux 6.18), and there are ten for each container and pod. They are asked for every ten
//! seconds: of 200 cgroups the files would hold 9 MiB to save a thousandth of a processor. So
//! only directories are kept, one on v2 and three to six on v1, and a sample reads no file that
//! the kubelet does not ask for.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::text::{limit, number};
use super::{CpuStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, Stats, v1, v2};
use crate::cgroup::error::CgroupError;
use crate::cgroup::layout::Controller;
use crate::cgroup::path::CgroupPath;
use crate::cgroup::{Cgroups, Hierarchy, Version, tree};

/// The longest file that a sample reads: memory.stat has 2 KiB, io.stat 100 bytes a device.
const MAX_FILE: usize = 16 << 10;
/// The most sizes of huge pages that are looked for; architectures have two to five.
const MAX_PAGE_SIZES: usize = 16;

/// A cgroup, open for samples. It stays that cgroup: if one of the same name is made after it was
/// removed, samples still say [`CgroupError::Gone`].
#[derive(Debug)]
pub struct StatsReader {
    path: String,
    version: Version,
    /// On v2 all of these are the same directory.
    cpu: Option<Directory>,
    cpuacct: Option<Directory>,
    memory: Option<Directory>,
    pids: Option<Directory>,
    io: Option<Directory>,
    hugetlb: Option<Directory>,
}

/// A cgroup's directory in one hierarchy; shared where controllers share a hierarchy.
type Directory = std::sync::Arc<Open>;

#[derive(Debug)]
struct Open {
    dir: OwnedFd,
    shown: PathBuf,
}

impl Open {
    /// Reads a file of the cgroup; `None` if there is none.
    fn read<'b>(
        &self,
        file: &'static CStr,
        buffer: &'b mut [u8],
    ) -> Result<Option<&'b str>, CgroupError> {
        tree::read_file(self.dir.as_fd(), file, buffer).map_err(|errno| self.fault(file, errno))
    }

    fn fault(&self, file: &CStr, errno: Errno) -> CgroupError {
        let path = self.shown.join(file.to_string_lossy().as_ref());
        if errno == Errno::FBIG {
            return CgroupError::TooMuch {
                path,
                what: "bytes",
                limit: MAX_FILE,
            };
        }
        CgroupError::Io {
            path,
            step: "reading it",
            source: errno.into(),
        }
    }
}

impl StatsReader {
    /// Opens a cgroup in the hierarchies that have figures on it; without `all` only in those that
    /// [`sample`](Self::sample) reads.
    pub(in crate::cgroup) fn open(
        cgroups: &Cgroups,
        path: &CgroupPath,
        all: bool,
    ) -> Result<StatsReader, CgroupError> {
        let mut reader = StatsReader {
            path: path.to_string(),
            version: cgroups.version,
            cpu: None,
            cpuacct: None,
            memory: None,
            pids: None,
            io: None,
            hugetlb: None,
        };
        let unified = cgroups.version == Version::V2;
        for hierarchy in cgroups
            .hierarchies
            .iter()
            .filter(|each| each.unified == unified)
        {
            reader.add(hierarchy, path, unified, all)?;
        }
        if reader.any().is_none() {
            return Err(reader.gone());
        }
        Ok(reader)
    }

    fn add(
        &mut self,
        hierarchy: &Hierarchy,
        path: &CgroupPath,
        unified: bool,
        all: bool,
    ) -> Result<(), CgroupError> {
        let slots = [
            (&mut self.cpu, Controller::Cpu),
            (&mut self.cpuacct, Controller::Cpuacct),
            (&mut self.memory, Controller::Memory),
            (&mut self.pids, Controller::Pids),
            (&mut self.io, Controller::Io),
            (&mut self.hugetlb, Controller::Hugetlb),
        ];
        let usual = [Controller::Cpuacct, Controller::Memory, Controller::Pids];
        let wanted = |controller| {
            unified || hierarchy.holds(controller) && (all || usual.contains(&controller))
        };
        if !slots.iter().any(|slot| wanted(slot.1)) {
            return Ok(());
        }
        let Some(dir) = hierarchy.enter(path.as_str())? else {
            return Ok(());
        };
        let directory = Directory::new(Open {
            dir,
            shown: tree::shown(hierarchy, path),
        });
        for (slot, controller) in slots {
            if wanted(controller) {
                *slot = Some(directory.clone());
            }
        }
        Ok(())
    }

    fn any(&self) -> Option<&Directory> {
        [&self.cpuacct, &self.memory, &self.cpu, &self.pids]
            .into_iter()
            .find_map(Option::as_ref)
    }

    fn gone(&self) -> CgroupError {
        CgroupError::Gone {
            path: self.path.clone(),
        }
    }

    /// A sample of what the kubelet asks for every few seconds: processor time, memory, swap,
    /// tasks and pressure.
    pub fn sample(&self) -> Result<Stats, CgroupError> {
        self.take(false)
    }

    /// A sample of everything.
    pub fn sample_all(&self) -> Result<Stats, CgroupError> {
        let mut stats = self.take(true)?;
        stats.io = self.io_stats(&mut Buffers::default())?;
        stats.hugetlb = self.hugetlb_stats(&mut Buffers::default())?;
        Ok(stats)
    }

    fn take(&self, all: bool) -> Result<Stats, CgroupError> {
        let buffers = &mut Buffers::default();
        let mut stats = Stats {
            cpu: self.cpu_stats(buffers, all)?,
            memory: match self.version {
                Version::V1 => self.memory_stats_v1(buffers, all)?,
                Version::V2 => self.memory_stats_v2(buffers, all)?,
            },
            pids: self.pids_stats(buffers, all)?,
            ..Stats::default()
        };
        if self.version == Version::V2 {
            stats.io_pressure = self.pressure(c"io.pressure", "io.pressure", buffers)?;
        }
        // A removed cgroup has no files. On v2 cpu.stat is always there, on v1 cpuacct.usage.
        if stats.cpu.is_none() && stats.memory.is_none() && stats.pids.is_none() {
            return Err(self.gone());
        }
        Ok(stats)
    }

    fn cpu_stats(&self, buffers: &mut Buffers, all: bool) -> Result<Option<CpuStats>, CgroupError> {
        let Some(cpuacct) = &self.cpuacct else {
            return Ok(None);
        };
        let Buffers {
            long,
            short: [a, b, ..],
        } = buffers;
        if self.version == Version::V2 {
            let Some(stat) = cpuacct.read(c"cpu.stat", long)? else {
                return Ok(None);
            };
            let mut cpu = v2::cpu(stat)?;
            cpu.pressure = self.pressure(c"cpu.pressure", "cpu.pressure", buffers)?;
            return Ok(Some(cpu));
        }
        let Some(usage) = cpuacct.read(c"cpuacct.usage", a)? else {
            return Ok(None);
        };
        let stat = if all {
            cpuacct.read(c"cpuacct.stat", b)?
        } else {
            None
        };
        let mut cpu = v1::cpu(usage, stat)?;
        if let Some(dir) = self.cpu.as_ref().filter(|_| all) {
            cpu.throttling = dir
                .read(c"cpu.stat", long)?
                .map(v1::throttling)
                .transpose()?;
        }
        Ok(Some(cpu))
    }

    fn memory_stats_v1(
        &self,
        buffers: &mut Buffers,
        all: bool,
    ) -> Result<Option<MemoryStats>, CgroupError> {
        let Some(dir) = &self.memory else {
            return Ok(None);
        };
        let Buffers {
            long,
            short: [a, b, c, d, e, f, g],
        } = buffers;
        let Some(usage) = dir.read(c"memory.usage_in_bytes", a)? else {
            return Ok(None);
        };
        let mut files = v1::MemoryFiles {
            usage,
            stat: dir.read(c"memory.stat", long)?.unwrap_or_default(),
            limit: dir.read(c"memory.limit_in_bytes", b)?.unwrap_or("max"),
            memsw_limit: dir.read(c"memory.memsw.limit_in_bytes", c)?,
            ..v1::MemoryFiles::default()
        };
        if all {
            files.oom_control = dir.read(c"memory.oom_control", d)?;
            files.peak = dir.read(c"memory.max_usage_in_bytes", e)?;
            files.failcnt = dir.read(c"memory.failcnt", f)?;
            files.kernel = dir.read(c"memory.kmem.usage_in_bytes", g)?;
        }
        v1::memory(&files).map(Some)
    }

    fn memory_stats_v2(
        &self,
        buffers: &mut Buffers,
        all: bool,
    ) -> Result<Option<MemoryStats>, CgroupError> {
        let Some(dir) = &self.memory else {
            return Ok(None);
        };
        let Buffers {
            long,
            short: [a, b, c, d, e, f, _],
        } = buffers;
        let Some(current) = dir.read(c"memory.current", a)? else {
            return Ok(None);
        };
        let swap = (
            dir.read(c"memory.swap.current", b)?,
            dir.read(c"memory.swap.max", c)?,
        );
        let mut files = v2::MemoryFiles {
            current,
            stat: dir.read(c"memory.stat", long)?.unwrap_or_default(),
            max: dir.read(c"memory.max", d)?.unwrap_or("max"),
            swap: swap.0.zip(swap.1),
            ..v2::MemoryFiles::default()
        };
        if all {
            files.events = dir.read(c"memory.events", e)?;
            files.peak = dir.read(c"memory.peak", f)?;
        }
        let mut memory = v2::memory(&files)?;
        memory.pressure = self.pressure(c"memory.pressure", "memory.pressure", buffers)?;
        Ok(Some(memory))
    }

    fn pids_stats(
        &self,
        buffers: &mut Buffers,
        all: bool,
    ) -> Result<Option<PidsStats>, CgroupError> {
        let Some(dir) = &self.pids else {
            return Ok(None);
        };
        let [a, b, ..] = &mut buffers.short;
        let Some(current) = dir.read(c"pids.current", a)? else {
            return Ok(None);
        };
        let max = if all {
            dir.read(c"pids.max", b)?.unwrap_or("max")
        } else {
            "max"
        };
        Ok(Some(PidsStats {
            current: number("pids.current", current)?,
            limit: limit("pids.max", max)?,
        }))
    }

    fn pressure(
        &self,
        file: &'static CStr,
        name: &'static str,
        buffers: &mut Buffers,
    ) -> Result<Option<Pressure>, CgroupError> {
        let Some(dir) = &self.cpuacct else {
            return Ok(None);
        };
        dir.read(file, &mut buffers.long)?
            .map(|text| v2::pressure(name, text))
            .transpose()
    }

    fn io_stats(&self, buffers: &mut Buffers) -> Result<Option<Vec<IoStats>>, CgroupError> {
        let Some(dir) = &self.io else { return Ok(None) };
        if self.version == Version::V2 {
            return dir
                .read(c"io.stat", &mut buffers.long)?
                .map(v2::io)
                .transpose();
        }
        let mut requests = [0; MAX_FILE];
        let bytes = dir.read(
            c"blkio.throttle.io_service_bytes_recursive",
            &mut buffers.long,
        )?;
        let requests = dir.read(c"blkio.throttle.io_serviced_recursive", &mut requests)?;
        bytes
            .zip(requests)
            .map(|(bytes, requests)| v1::io(bytes, requests))
            .transpose()
    }

    fn hugetlb_stats(&self, buffers: &mut Buffers) -> Result<Vec<HugetlbStats>, CgroupError> {
        let Some(dir) = &self.hugetlb else {
            return Ok(Vec::new());
        };
        let (usage, version_1) = match self.version {
            Version::V1 => ("usage_in_bytes", true),
            Version::V2 => ("current", false),
        };
        let [a, ..] = &mut buffers.short;
        let mut figure = |size: &str, end: &str| {
            let file = CString::new(format!("hugetlb.{size}.{end}")).unwrap_or_default();
            let text = tree::read_file(dir.dir.as_fd(), &file, a);
            let text = text.map_err(|errno| dir.fault(&file, errno))?;
            text.map(|text| match end {
                "events" => v2::hugetlb_limit_hits(text),
                _ => number("hugetlb", text),
            })
            .transpose()
        };
        let mut all = Vec::new();
        for size in page_sizes(dir.dir.as_fd()).map_err(|errno| dir.fault(c"hugetlb", errno))? {
            let Some(usage_bytes) = figure(&size, usage)? else {
                continue;
            };
            let peak_bytes = if version_1 {
                figure(&size, "max_usage_in_bytes")?
            } else {
                None
            };
            let hits = figure(&size, if version_1 { "failcnt" } else { "events" })?;
            let limit_hits = hits.unwrap_or_default();
            all.push(HugetlbStats {
                page_size: size,
                usage_bytes,
                peak_bytes,
                limit_hits,
            });
        }
        Ok(all)
    }
}

/// The sizes for which a cgroup has files `hugetlb.<size>.…`.
fn page_sizes(dir: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut sizes: Vec<String> = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let size = name
            .strip_prefix("hugetlb.")
            .and_then(|rest| rest.split('.').next());
        if let Some(size) = size
            && sizes.len() < MAX_PAGE_SIZES
            && !sizes.iter().any(|known| known == size)
        {
            sizes.push(size.to_owned());
        }
    }
    sizes.sort_unstable();
    Ok(sizes)
}

/// Room for the files of one part, on the stack: a sample allocates nothing.
#[derive(Debug)]
struct Buffers {
    /// For files with many lines.
    long: [u8; MAX_FILE],
    /// For files with one number, or a few.
    short: [[u8; 512]; 7],
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers {
            long: [0; MAX_FILE],
            short: [[0; 512]; 7],
        }
    }
}
