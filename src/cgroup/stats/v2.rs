//! cgroup v2's files as figures. Source: Documentation/admin-guide/cgroup-v2.rst and psi.rst.

use super::text::{device, keyed, limit, number};
use super::{CpuStats, IoStats, MemoryStats, Pressure, Stall, SwapStats, Throttling};
use crate::cgroup::error::{CgroupError, quote};

/// Nanoseconds in a microsecond: v2 counts in the latter, the CRI in the former.
const NS_PER_US: u64 = 1000;

/// `cpu.stat`. The lines on periods exist only where the cpu controller is on.
pub(super) fn cpu(stat: &str) -> Result<CpuStats, CgroupError> {
    let mut cpu = CpuStats::default();
    let mut throttling = Throttling::default();
    let mut controlled = false;
    keyed("cpu.stat", stat, |key, value| match key {
        "usage_usec" => cpu.usage_ns = value.saturating_mul(NS_PER_US),
        "user_usec" => cpu.user_ns = Some(value.saturating_mul(NS_PER_US)),
        "system_usec" => cpu.system_ns = Some(value.saturating_mul(NS_PER_US)),
        "nr_periods" => {
            controlled = true;
            throttling.periods = value;
        }
        "nr_throttled" => throttling.throttled_periods = value,
        "throttled_usec" => throttling.throttled_ns = value.saturating_mul(NS_PER_US),
        _ => {}
    })?;
    cpu.throttling = controlled.then_some(throttling);
    Ok(cpu)
}

/// The files of the memory controller, as text.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles<'a> {
    /// memory.current
    pub(super) current: &'a str,
    /// memory.stat
    pub(super) stat: &'a str,
    /// memory.max
    pub(super) max: &'a str,
    /// memory.events
    pub(super) events: Option<&'a str>,
    /// memory.peak
    pub(super) peak: Option<&'a str>,
    /// memory.swap.current and memory.swap.max
    pub(super) swap: Option<(&'a str, &'a str)>,
}

/// The memory controller's files.
pub(super) fn memory(files: &MemoryFiles<'_>) -> Result<MemoryStats, CgroupError> {
    let mut memory = MemoryStats {
        usage_bytes: number("memory.current", files.current)?,
        limit_bytes: limit("memory.max", files.max)?,
        ..MemoryStats::default()
    };
    let mut inactive_file = 0;
    keyed("memory.stat", files.stat, |key, value| match key {
        "anon" => memory.rss_bytes = value,
        "file" => memory.cache_bytes = value,
        "file_mapped" => memory.mapped_file_bytes = value,
        "kernel" => memory.kernel_bytes = Some(value),
        "inactive_file" => inactive_file = value,
        "pgfault" => memory.page_faults = value,
        "pgmajfault" => memory.major_page_faults = value,
        _ => {}
    })?;
    memory.working_set_bytes = memory.usage_bytes.saturating_sub(inactive_file);
    if let Some(events) = files.events {
        keyed("memory.events", events, |key, value| match key {
            "max" => memory.limit_hits = Some(value),
            "oom_kill" => memory.oom_kills = Some(value),
            _ => {}
        })?;
    }
    memory.peak_bytes = files
        .peak
        .map(|text| number("memory.peak", text))
        .transpose()?;
    if let Some((current, max)) = files.swap {
        memory.swap = Some(SwapStats {
            usage_bytes: number("memory.swap.current", current)?,
            limit_bytes: limit("memory.swap.max", max)?,
        });
    }
    Ok(memory)
}

/// `cpu.pressure`, `memory.pressure` or `io.pressure`. Before Linux 5.13 cpu has no line `full`.
pub(super) fn pressure(file: &'static str, text: &str) -> Result<Pressure, CgroupError> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("some", rest)) => pressure.some = stall(file, rest)?,
            Some(("full", rest)) => pressure.full = stall(file, rest)?,
            _ => {
                return Err(CgroupError::Format {
                    file,
                    text: quote(line),
                });
            }
        }
    }
    Ok(pressure)
}

fn stall(file: &'static str, text: &str) -> Result<Stall, CgroupError> {
    let mut stall = Stall::default();
    for field in text.split_whitespace() {
        let fault = || CgroupError::Format {
            file,
            text: quote(text),
        };
        let (key, value) = field.split_once('=').ok_or_else(fault)?;
        let share = || value.parse().map_err(|_| fault());
        match key {
            "avg10" => stall.avg10 = share()?,
            "avg60" => stall.avg60 = share()?,
            "avg300" => stall.avg300 = share()?,
            "total" => stall.total_ns = number(file, value)?.saturating_mul(NS_PER_US),
            _ => {}
        }
    }
    Ok(stall)
}

/// `io.stat`: a line for each device, `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
pub(super) fn io(stat: &str) -> Result<Vec<IoStats>, CgroupError> {
    let mut all = Vec::new();
    for line in stat.lines() {
        let mut fields = line.split(' ');
        let mut io = IoStats {
            device: device("io.stat", fields.next().unwrap_or_default())?,
            ..IoStats::default()
        };
        for field in fields {
            let (figure, value) = match field.split_once('=') {
                Some(("rbytes", value)) => (&mut io.read_bytes, value),
                Some(("wbytes", value)) => (&mut io.write_bytes, value),
                Some(("rios", value)) => (&mut io.reads, value),
                Some(("wios", value)) => (&mut io.writes, value),
                _ => continue,
            };
            *figure = number("io.stat", value)?;
        }
        all.push(io);
    }
    Ok(all)
}

/// `hugetlb.<size>.events`: how often the limit refused a page.
pub(super) fn hugetlb_limit_hits(events: &str) -> Result<u64, CgroupError> {
    let mut hits = 0;
    keyed("hugetlb.events", events, |key, value| {
        if key == "max" {
            hits = value;
        }
    })?;
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
anon 10485760
file 20971520
kernel 3145728
kernel_stack 65536
pagetables 131072
percpu 8192
sock 0
vmalloc 0
shmem 4096
file_mapped 5242880
file_dirty 0
file_writeback 0
swapcached 0
anon_thp 0
inactive_anon 10481664
active_anon 4096
inactive_file 15728640
active_file 5238784
unevictable 0
slab_reclaimable 1048576
slab_unreclaimable 524288
slab 1572864
workingset_refault_anon 0
pgscan 0
pgfault 4711
pgmajfault 12
thp_fault_alloc 0
";

    #[test]
    fn processor_time_is_in_nanoseconds_and_throttling_needs_the_controller() {
        let with = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\n\
                    core_sched.force_idle_usec 0\nnr_periods 20\nnr_throttled 3\n\
                    throttled_usec 45000\nnr_bursts 0\nburst_usec 0\n";
        let stats = cpu(with).unwrap();
        assert_eq!(stats.usage_ns, 1_234_567_000);
        assert_eq!(
            (stats.user_ns, stats.system_ns),
            (Some(1_000_000_000), Some(234_567_000))
        );
        let throttling = Throttling {
            periods: 20,
            throttled_periods: 3,
            throttled_ns: 45_000_000,
        };
        assert_eq!(stats.throttling, Some(throttling));

        let without = "usage_usec 7\nuser_usec 5\nsystem_usec 2\n";
        assert_eq!(cpu(without).unwrap().throttling, None);
    }

    #[test]
    fn memory_comes_with_working_set_limit_swap_and_oom_kills() {
        let files = MemoryFiles {
            current: "35651584\n",
            stat: STAT,
            max: "67108864\n",
            events: Some("low 0\nhigh 0\nmax 5\noom 2\noom_kill 2\noom_group_kill 1\n"),
            peak: Some("40000000\n"),
            swap: Some(("4096\n", "max\n")),
        };
        let stats = memory(&files).unwrap();
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
                limit_bytes: None,
            }),
            pressure: None,
        };
        assert_eq!(stats, want);
        assert_eq!(stats.available_bytes(), 47_185_920);
    }

    #[test]
    fn memory_without_limit_or_swap_accounting_leaves_both_out() {
        let files = MemoryFiles {
            current: "4096",
            stat: "inactive_file 8192\n",
            max: "max",
            ..MemoryFiles::default()
        };
        let stats = memory(&files).unwrap();
        assert_eq!((stats.working_set_bytes, stats.available_bytes()), (0, 0));
        assert_eq!((stats.swap, stats.oom_kills), (None, None));
    }

    #[test]
    fn pressure_totals_are_nanoseconds_and_an_old_kernel_has_no_full_for_cpu() {
        let text = "some avg10=0.51 avg60=1.20 avg300=12.34 total=123456\n\
                    full avg10=0.00 avg60=0.00 avg300=0.10 total=789\n";
        let stats = pressure("cpu.pressure", text).unwrap();
        let some = Stall {
            avg10: 0.51,
            avg60: 1.2,
            avg300: 12.34,
            total_ns: 123_456_000,
        };
        assert_eq!(stats.some, some);
        assert_eq!(stats.full.total_ns, 789_000);
        let old = pressure("cpu.pressure", text.lines().next().unwrap()).unwrap();
        assert_eq!(old.full, Stall::default());
        for bad in [
            "nonsense",
            "some avg10",
            "some avg10=x",
            "some total=-1",
            "half total=1",
        ] {
            assert!(pressure("cpu.pressure", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn transfers_are_told_device_by_device() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n\
                    259:3 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=5 dios=3\n\
                    7:0\n";
        let want = [
            IoStats {
                device: (8, 16),
                read_bytes: 1_459_200,
                write_bytes: 314_773_504,
                reads: 192,
                writes: 353,
            },
            IoStats {
                device: (259, 3),
                read_bytes: 90_430_464,
                write_bytes: 299_008_000,
                reads: 8950,
                writes: 1252,
            },
            IoStats {
                device: (7, 0),
                ..IoStats::default()
            },
        ];
        assert_eq!(io(text).unwrap(), want);
        assert_eq!(io("").unwrap(), []);
        for bad in [
            "8:0 rbytes=many",
            "8 rbytes=1",
            ":0",
            "8:0:1 rbytes=1",
            "\n",
        ] {
            assert!(io(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refused_huge_pages_are_counted() {
        assert_eq!(hugetlb_limit_hits("max 4\n").unwrap(), 4);
    }
}
