//! What the kernel knows of the processes of a node.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cricket_harness::{Node, leaks};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

/// Of /proc/PID/stat what is after the name; proc_pid_stat(5) counts these fields from 3 on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// A field of /proc/PID/stat by its number in proc_pid_stat(5).
pub fn stat_field(pid: u32, number: usize) -> u64 {
    let fields = stat(pid).unwrap_or_else(|| panic!("process {pid} is gone"));
    fields[number - 3].parse().unwrap()
}

/// The children of any of `parents` that have ended and that nobody has waited for.
pub fn zombies(parents: &[u32]) -> Vec<u32> {
    let parents: BTreeSet<String> = parents.iter().map(u32::to_string).collect();
    leaks::pids()
        .filter(|pid| {
            stat(*pid).is_some_and(|fields| fields[0] == "Z" && parents.contains(&fields[1]))
        })
        .collect()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The monitor of a container, by its pid.
pub fn monitor(node: &Node, container: &str) -> u32 {
    let processes = node.processes(container);
    let found = processes
        .iter()
        .find(|(_, facts)| facts.contains("conmon"))
        .unwrap_or_else(|| panic!("no monitor: {processes:?}"));
    found.0
}

/// The cgroup directory of a process in the hierarchy that counts processes.
pub fn pids_cgroup(pid: u32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let held = controllers.split(',').any(|name| name == wanted);
            held.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    match (of("pids"), of("")) {
        (Some(path), _) => PathBuf::from("/sys/fs/cgroup/pids").join(path),
        (None, Some(path)) => PathBuf::from("/sys/fs/cgroup").join(path),
        (None, None) => panic!("no cgroup: {text}"),
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Lets the daemon open as many descriptors beyond those that it has as this process may have in all,
/// or none at all.
pub fn allow_descriptors(daemon: u32, allowed: bool) {
    let own = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: if allowed { own.current } else { Some(0) },
        maximum: own.maximum,
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon).unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
}
