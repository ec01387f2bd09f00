//! cgroup v1's files as figures. Source: Documentation/admin-guide/cgroup-v1/.

use super::text::{device, keyed, limit, number};
use super::{CpuStats, IoStats, MemoryStats, SwapStats, Throttling};
use crate::cgroup::error::{CgroupError, quote};

/// Nanoseconds in a tick of `cpuacct.stat`: USER_HZ is 100 on every architecture we run on.
const NS_PER_TICK: u64 = 10_000_000;

/// `cpuacct.usage`, and for user and kernel time `cpuacct.stat`.
pub(super) fn cpu(usage: &str, stat: Option<&str>) -> Result<CpuStats, CgroupError> {
    let mut cpu = CpuStats {
        usage_ns: number("cpuacct.usage", usage)?,
        ..CpuStats::default()
    };
    keyed(
        "cpuacct.stat",
        stat.unwrap_or_default(),
        |key, value| match key {
            "user" => cpu.user_ns = Some(value.saturating_mul(NS_PER_TICK)),
            "system" => cpu.system_ns = Some(value.saturating_mul(NS_PER_TICK)),
            _ => {}
        },
    )?;
    Ok(cpu)
}

/// `cpu.stat`, which is in nanoseconds already.
pub(super) fn throttling(stat: &str) -> Result<Throttling, CgroupError> {
    let mut throttling = Throttling::default();
    keyed("cpu.stat", stat, |key, value| match key {
        "nr_periods" => throttling.periods = value,
        "nr_throttled" => throttling.throttled_periods = value,
        "throttled_time" => throttling.throttled_ns = value,
        _ => {}
    })?;
    Ok(throttling)
}

/// The files of the memory controller, as text.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles<'a> {
    /// memory.usage_in_bytes
    pub(super) usage: &'a str,
    /// memory.stat
    pub(super) stat: &'a str,
    /// memory.limit_in_bytes
    pub(super) limit: &'a str,
    /// memory.oom_control
    pub(super) oom_control: Option<&'a str>,
    /// memory.max_usage_in_bytes
    pub(super) peak: Option<&'a str>,
    /// memory.failcnt
    pub(super) failcnt: Option<&'a str>,
    /// memory.kmem.usage_in_bytes
    pub(super) kernel: Option<&'a str>,
    /// memory.memsw.limit_in_bytes; exists only if swap is accounted for
    pub(super) memsw_limit: Option<&'a str>,
}

/// The memory controller's files. The lines `total_` of memory.stat include cgroups below.
pub(super) fn memory(files: &MemoryFiles<'_>) -> Result<MemoryStats, CgroupError> {
    let mut memory = MemoryStats {
        usage_bytes: number("memory.usage_in_bytes", files.usage)?,
        limit_bytes: limit("memory.limit_in_bytes", files.limit)?,
        ..MemoryStats::default()
    };
    let (mut inactive_file, mut swap) = (0, 0);
    keyed("memory.stat", files.stat, |key, value| match key {
        "total_rss" => memory.rss_bytes = value,
        "total_cache" => memory.cache_bytes = value,
        "total_mapped_file" => memory.mapped_file_bytes = value,
        "total_inactive_file" => inactive_file = value,
        "total_pgfault" => memory.page_faults = value,
        "total_pgmajfault" => memory.major_page_faults = value,
        "total_swap" => swap = value,
        _ => {}
    })?;
    memory.working_set_bytes = memory.usage_bytes.saturating_sub(inactive_file);
    let some = |file, text: Option<&str>| text.map(|text| number(file, text)).transpose();
    memory.peak_bytes = some("memory.max_usage_in_bytes", files.peak)?;
    memory.limit_hits = some("memory.failcnt", files.failcnt)?;
    memory.kernel_bytes = some("memory.kmem.usage_in_bytes", files.kernel)?;
    if let Some(text) = files.oom_control {
        // `oom_kill` came with Linux 4.13.
        keyed("memory.oom_control", text, |key, value| {
            if key == "oom_kill" {
                memory.oom_kills = Some(value);
            }
        })?;
    }
    if let Some(text) = files.memsw_limit {
        // v1 limits memory and swap together; what is beyond memory's limit is for swap.
        let both = limit("memory.memsw.limit_in_bytes", text)?;
        let limit_bytes =
            both.map(|both| both.saturating_sub(memory.limit_bytes.unwrap_or_default()));
        memory.swap = Some(SwapStats {
            usage_bytes: swap,
            limit_bytes,
        });
    }
    Ok(memory)
}

/// `blkio.throttle.io_service_bytes_recursive` and `blkio.throttle.io_serviced_recursive`: lines
/// of `8:0 Read 4096`, then a total.
pub(super) fn io(bytes: &str, requests: &str) -> Result<Vec<IoStats>, CgroupError> {
    let mut all = Vec::new();
    let file = "blkio.throttle.io_service_bytes_recursive";
    transfers(file, bytes, &mut all, |io| {
        (&mut io.read_bytes, &mut io.write_bytes)
    })?;
    let file = "blkio.throttle.io_serviced_recursive";
    transfers(file, requests, &mut all, |io| {
        (&mut io.reads, &mut io.writes)
    })?;
    Ok(all)
}

/// Puts each device's figures where `places` says: those of reads and those of writes.
fn transfers(
    file: &'static str,
    text: &str,
    all: &mut Vec<IoStats>,
    places: impl Fn(&mut IoStats) -> (&mut u64, &mut u64),
) -> Result<(), CgroupError> {
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(first), Some(kind)) = (fields.next(), fields.next()) else {
            return Err(CgroupError::Format {
                file,
                text: quote(line),
            });
        };
        // The last line, "Total 4096", has two fields only.
        let Some(value) = fields.next() else { continue };
        let device = device(file, first)?;
        let at = all.iter().position(|io| io.device == device);
        let at = at.unwrap_or_else(|| {
            all.push(IoStats {
                device,
                ..IoStats::default()
            });
            all.len() - 1
        });
        let (reads, writes) = places(&mut all[at]);
        match kind {
            "Read" => *reads = number(file, value)?,
            "Write" => *writes = number(file, value)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of a container on Linux 6.18, shortened.
    const STAT: &str = "\
cache 8192
rss 4096
rss_huge 0
mapped_file 0
swap 0
pgfault 1
pgmajfault 0
inactive_file 4096
hierarchical_memory_limit 67108864
hierarchical_memsw_limit 134217728
total_cache 20971520
total_rss 10485760
total_rss_huge 0
total_shmem 0
total_mapped_file 5242880
total_swap 4096
total_pgpgin 5120
total_pgpgout 11
total_pgfault 4711
total_pgmajfault 12
total_inactive_anon 10481664
total_active_anon 4096
total_inactive_file 15728640
total_active_file 5238784
total_unevictable 0
";

    #[test]
    fn processor_time_is_in_nanoseconds() {
        let stats = cpu("1234567890\n", Some("user 100\nsystem 23\n")).unwrap();
        assert_eq!(stats.usage_ns, 1_234_567_890);
        assert_eq!(
            (stats.user_ns, stats.system_ns),
            (Some(1_000_000_000), Some(230_000_000))
        );
        assert!(cpu("", None).is_err());
    }

    #[test]
    fn throttling_needs_no_conversion() {
        let text = "nr_periods 20\nnr_throttled 3\nthrottled_time 45000000\nnr_bursts 0\n\
                    burst_time 0\n";
        let want = Throttling {
            periods: 20,
            throttled_periods: 3,
            throttled_ns: 45_000_000,
        };
        assert_eq!(throttling(text).unwrap(), want);
    }

    #[test]
    fn memory_counts_the_cgroups_below_too() {
        let files = MemoryFiles {
            usage: "35651584\n",
            stat: STAT,
            limit: "67108864\n",
            oom_control: Some("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            peak: Some("40000000\n"),
            failcnt: Some("5\n"),
            kernel: Some("3145728\n"),
            memsw_limit: Some("134217728\n"),
        };
        let want = MemoryStats {
            usage_bytes: 35_651_584,
            working_set_bytes: 19_922_944,
            rss_bytes: 10_485_760,
            cache_bytes: 20_971_520,
            mapped_file_bytes: 5_242_880,
            kernel_bytes: Some(3_145_728),
            peak_bytes: Some(40_000_000),
            limit_bytes: Some(67_108_864),
            page_faults: 4711,
            major_page_faults: 12,
            limit_hits: Some(5),
            oom_kills: Some(2),
            swap: Some(SwapStats {
                usage_bytes: 4096,
                limit_bytes: Some(67_108_864),
            }),
            pressure: None,
        };
        assert_eq!(memory(&files).unwrap(), want);
    }

    #[test]
    fn memory_without_limits_has_none_for_swap_either() {
        let unlimited = "9223372036854771712\n";
        let files = MemoryFiles {
            usage: "0\n",
            stat: STAT,
            limit: unlimited,
            memsw_limit: Some(unlimited),
            ..MemoryFiles::default()
        };
        let stats = memory(&files).unwrap();
        assert_eq!((stats.limit_bytes, stats.available_bytes()), (None, 0));
        assert_eq!(stats.swap.unwrap().limit_bytes, None);
    }

    #[test]
    fn transfers_are_told_device_by_device_and_the_total_is_left_out() {
        let bytes = "8:0 Read 4096\n8:0 Write 100\n8:0 Sync 4196\n8:0 Async 0\n8:0 Total 4196\n\
                     8:16 Read 1\n8:16 Write 2\nTotal 4199\n";
        let requests = "8:0 Read 3\n8:0 Write 4\nTotal 7\n";
        let want = [
            IoStats {
                device: (8, 0),
                read_bytes: 4096,
                write_bytes: 100,
                reads: 3,
                writes: 4,
            },
            IoStats {
                device: (8, 16),
                read_bytes: 1,
                write_bytes: 2,
                ..IoStats::default()
            },
        ];
        assert_eq!(io(bytes, requests).unwrap(), want);
        assert_eq!(io("Total 0\n", "Total 0\n").unwrap(), []);
        for bad in ["8:0 Read x\n", "8 Read 1\n", "garbage\n"] {
            assert!(io(bad, "").is_err(), "{bad:?}");
        }
    }
}
