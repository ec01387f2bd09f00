//! What processes cost: PSS and private memory from smaps_rollup, CPU time from stat.

use std::path::Path;

/// Sums over one or more processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size: shared pages divided by their users.
    pub pss: u64,
    /// Pages of this process alone.
    pub private: u64,
}

/// Of one process; `None` when it is gone.
pub fn of(pid: u32) -> Option<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(parse(&text))
}

/// The most that a process had resident since [`forget_peak`], in bytes.
pub fn peak(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// Sets [`peak`] to what is resident now (proc_pid_clear_refs(5), the value 5).
#[track_caller]
pub fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

fn parse(text: &str) -> Memory {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("0 kB");
        line.trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .unwrap_or(0)
            * 1024
    };
    Memory {
        pss: field("Pss:"),
        private: field("Private_Clean:") + field("Private_Dirty:"),
    }
}

/// CPU time that a process has used, its ended children included, in seconds.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks; utime is the 12th field after it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on every Linux ABI that cricket runs on.
    Some(ticks as f64 / 100.0)
}

/// CPU time that the whole machine has spent not idle, in seconds.
pub fn machine_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq
    let busy: u64 = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|at| fields.get(*at))
        .sum();
    busy as f64 / 100.0
}

/// Processes whose executable is `program`, so not by a name that others may share.
pub fn running(program: &Path) -> Vec<u32> {
    let program = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    crate::leaks::pids()
        .filter(|pid| {
            let target = std::fs::read_link(format!("/proc/{pid}/exe"));
            target.is_ok_and(|exe| exe == program)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_from_smaps_rollup() {
        let text = "Rss: 900 kB\nPss:                 110 kB\nPss_Anon: 7 kB\n\
                    Private_Clean:        20 kB\nPrivate_Dirty:        10 kB\n";
        assert_eq!(
            parse(text),
            Memory {
                pss: 110 * 1024,
                private: 30 * 1024
            }
        );
        assert!(of(std::process::id()).unwrap().pss > 0);
    }
}
