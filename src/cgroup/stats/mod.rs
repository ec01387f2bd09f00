//! What a cgroup uses, in the units of the CRI: nanoseconds, bytes, counts.
//!
//! [`StatsReader`] reads the kernel's files; `v1` and `v2` turn their text into [`Stats`] and do
//! no input or output. A figure is `None` where the kernel does not account for it: the controller
//! is off, the file is newer than the kernel, or the version of cgroups never had it; and where it
//! says so because [`StatsReader::sample`] leaves it to [`StatsReader::sample_all`].

mod history;
mod reader;
mod text;
mod v1;
mod v2;

pub use history::{History, Sample};
pub use reader::StatsReader;

/// A sample of everything a cgroup accounts for, including the cgroups below it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory and swap.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block devices that it has used, in the kernel's order; only in `sample_all`.
    pub io: Option<Vec<IoStats>>,
    /// Huge pages by size; only in `sample_all`.
    pub hugetlb: Vec<HugetlbStats>,
    /// Time lost waiting for block devices (cgroup v2 with PSI).
    pub io_pressure: Option<Pressure>,
}

/// Processor time since the cgroup was made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CpuStats {
    /// User and kernel time of all processors, in nanoseconds.
    pub usage_ns: u64,
    /// User time in nanoseconds (cgroup v1: to the 10 ms); only in `sample_all`.
    pub user_ns: Option<u64>,
    /// Kernel time in nanoseconds (cgroup v1: to the 10 ms); only in `sample_all`.
    pub system_ns: Option<u64>,
    /// What the quota took, where a cpu controller is on; only in `sample_all`.
    pub throttling: Option<Throttling>,
    /// Time lost waiting for a processor (cgroup v2 with PSI).
    pub pressure: Option<Pressure>,
}

/// What a cpu quota took from the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttling {
    /// Periods that the quota was enforced in.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time in which tasks were held back, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryStats {
    /// Everything charged, page cache included.
    pub usage_bytes: u64,
    /// Usage without file pages that have not been touched lately, which the kernel can take back
    /// at once. The kubelet evicts by this figure.
    pub working_set_bytes: u64,
    /// Anonymous memory. (v1 counts transparent huge pages in, v2 too.)
    pub rss_bytes: u64,
    /// Page cache.
    pub cache_bytes: u64,
    /// Files mapped into memory.
    pub mapped_file_bytes: u64,
    /// Memory of the kernel for the cgroup; not before Linux 5.18 on cgroup v2, only in
    /// `sample_all`.
    pub kernel_bytes: Option<u64>,
    /// The most that was ever charged; not before Linux 5.19 on cgroup v2, only in `sample_all`.
    pub peak_bytes: Option<u64>,
    /// The cgroup's own limit; `None`: unlimited.
    pub limit_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to wait for a device.
    pub major_page_faults: u64,
    /// How often usage ran into the limit; only in `sample_all`.
    pub limit_hits: Option<u64>,
    /// Processes that the kernel killed for want of memory; only in `sample_all`. cgroup v1 does
    /// not count those in cgroups below this one.
    pub oom_kills: Option<u64>,
    /// Swap; `None` if the kernel does not account for it.
    pub swap: Option<SwapStats>,
    /// Time lost waiting for memory (cgroup v2 with PSI).
    pub pressure: Option<Pressure>,
}

impl MemoryStats {
    /// Bytes left until the limit, counting what can be taken back at once as free; 0 if there is
    /// no limit, as the CRI wants it.
    pub fn available_bytes(&self) -> u64 {
        self.limit_bytes
            .map_or(0, |limit| limit.saturating_sub(self.working_set_bytes))
    }
}

/// Swap, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwapStats {
    /// Memory that has been swapped out.
    pub usage_bytes: u64,
    /// The limit of swap alone; `None`: unlimited.
    pub limit_bytes: Option<u64>,
}

impl SwapStats {
    /// Bytes left until the limit; 0 if there is no limit, as for memory.
    pub fn available_bytes(&self) -> u64 {
        self.limit_bytes
            .map_or(0, |limit| limit.saturating_sub(self.usage_bytes))
    }
}

/// Tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PidsStats {
    /// Processes and threads now.
    pub current: u64,
    /// How many there may be; `None`: unlimited. Only in `sample_all`.
    pub limit: Option<u64>,
}

/// Transfers to and from one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoStats {
    /// The device's number: major and minor.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HugetlbStats {
    /// The size as the kernel spells it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes in use.
    pub usage_bytes: u64,
    /// The most that was ever in use; cgroup v2 does not record it.
    pub peak_bytes: Option<u64>,
    /// How often the limit refused a page.
    pub limit_hits: u64,
}

/// Pressure stall information: time in which tasks could not run for want of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited at once.
    pub full: Stall,
}

/// Shares of wall time that were lost, in percent over three spans, and in total.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Time in all, in nanoseconds (the kernel writes microseconds).
    pub total_ns: u64,
}
