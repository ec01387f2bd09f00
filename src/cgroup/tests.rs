//! The room against the kernel: real cgroups below a name of this test run, real processes in
//! them. Needs root and a host with cgroup v1 (alone or hybrid) or v2; what a host lacks is
//! skipped with a line that says so.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(10);

/// A parent cgroup that no other test has, gone with everything in it at the end.
struct Scratch {
    cgroups: Cgroups,
    parent: String,
}

impl Scratch {
    fn new(cgroups: Cgroups) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Scratch {
            cgroups,
            parent: format!("/crickettest-{}-{number}", std::process::id()),
        }
    }

    /// The host's cgroups as the daemon sees them.
    fn host() -> Scratch {
        Scratch::new(Cgroups::detect(Manager::Cgroupfs).unwrap())
    }

    /// Only the cgroup2 mount, as if it were all there is; on a hybrid host it has no
    /// controllers, but the kernel's means to kill and to tell.
    fn unified() -> Option<Scratch> {
        let mut mounts = layout::parse_mountinfo(&tree::read_proc("/proc/self/mountinfo").unwrap());
        mounts.retain(|mount| mount.kind == Kind::Unified);
        if mounts.is_empty() {
            eprintln!("SKIPPED: no cgroup2 mount on this host");
            return None;
        }
        Some(Scratch::new(
            Cgroups::open(Manager::Cgroupfs, mounts).unwrap(),
        ))
    }

    fn container(&self) -> String {
        self.cgroups.container_path(&self.parent, ID).unwrap()
    }

    /// Makes the container's cgroup in every hierarchy, as an OCI runtime does.
    fn make(&self, path: &str) {
        let path = CgroupPath::parse(path).unwrap();
        for hierarchy in &self.cgroups.hierarchies {
            hierarchy.ensure(&path).unwrap();
            if hierarchy.holds(Controller::Cpuset) && !hierarchy.unified {
                fill_cpuset(&hierarchy.point, path.as_str());
            }
        }
    }

    fn move_in(&self, path: &str, pid: u32) {
        let path = CgroupPath::parse(path).unwrap();
        for hierarchy in &self.cgroups.hierarchies {
            std::fs::write(
                tree::shown(hierarchy, &path).join("cgroup.procs"),
                pid.to_string(),
            )
            .unwrap();
        }
    }

    /// The directories of a path that exist, over all hierarchies.
    fn existing(&self, path: &str) -> Vec<PathBuf> {
        let path = CgroupPath::parse(path).unwrap();
        let all = self
            .cgroups
            .hierarchies
            .iter()
            .map(|each| tree::shown(each, &path));
        all.filter(|path| path.exists()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroups.kill(&self.parent, PATIENCE);
        let removed = self.cgroups.remove(&self.parent);
        if !std::thread::panicking() {
            removed.unwrap();
            assert_eq!(self.existing(&self.parent), [] as [PathBuf; 0]);
        }
    }
}

/// A process in a cgroup v1 cpuset needs processors and memory nodes, which are not inherited.
fn fill_cpuset(point: &std::path::Path, path: &str) {
    let mut here = point.to_owned();
    for name in path.split('/') {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value = std::fs::read_to_string(here.join(file)).unwrap();
            std::fs::write(here.join(name).join(file), value).unwrap();
        }
        here.push(name);
    }
}

/// A child that is killed and reaped at the end of the test.
struct Process(Child);

impl Process {
    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        Process(command.spawn().unwrap())
    }

    fn sleeping() -> Process {
        Process::shell("exec sleep 1000")
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for a line of output, which says that the script has come so far.
    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        line
    }

    fn killed_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_host_is_described_as_it_is() {
    let cgroups = Cgroups::detect(Manager::Cgroupfs).unwrap();
    let v1 = std::fs::read_to_string("/proc/self/cgroup")
        .unwrap()
        .contains(":memory:");
    assert_eq!(
        cgroups.version(),
        if v1 { Version::V1 } else { Version::V2 }
    );
    let controllers = cgroups.controllers();
    assert!(
        controllers.cpu && controllers.memory && controllers.pids,
        "{controllers:?}"
    );
    if v1 {
        let swap = std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
        assert_eq!(controllers.swap, swap.exists());
    }
}

#[test]
fn the_systemd_manager_says_what_to_do_on_a_host_without_systemd() {
    if std::path::Path::new(SYSTEMD_BOOTED).exists() {
        eprintln!("SKIPPED: systemd runs this host");
        return;
    }
    let message = Cgroups::detect(Manager::Systemd).unwrap_err().to_string();
    assert!(
        message.contains("set cgroup_manager = \"cgroupfs\""),
        "{message}"
    );
}

#[test]
fn a_sandbox_has_one_directory_and_removing_it_leaves_the_pods() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let sandbox = scratch.container();
    for _ in 0..2 {
        cgroups.create_sandbox(parent, ID).unwrap();
        assert_eq!(scratch.existing(&sandbox).len(), 1);
    }
    for _ in 0..2 {
        cgroups.remove_sandbox(parent, ID).unwrap();
        assert_eq!(scratch.existing(&sandbox).len(), 0);
    }
    assert_eq!(scratch.existing(parent).len(), 1);
}

#[test]
fn a_monitor_leaves_the_daemons_memory_cgroup_and_its_own_goes_after_it() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let mut monitor = Process::sleeping();
    cgroups
        .place_monitor(monitor.pid(), ID, parent, "pod")
        .unwrap();
    let shown = std::fs::read_to_string(format!("/proc/{}/cgroup", monitor.pid())).unwrap();
    let line = shown
        .lines()
        .find(|line| line.contains(":memory:") || line.starts_with("0::"));
    let want = format!("{parent}/crio-conmon-{ID}");
    assert!(line.unwrap().ends_with(&want), "{shown}");

    let busy = cgroups.remove_monitor(parent, ID).unwrap_err();
    let own = monitor.pid();
    assert!(
        matches!(&busy, CgroupError::Busy { pids, .. } if pids == &[own]),
        "{busy}"
    );
    monitor.0.kill().unwrap();
    cgroups.remove_monitor(parent, ID).unwrap();
    assert_eq!(scratch.existing(&want).len(), 0);
    cgroups.remove_monitor(parent, ID).unwrap();
    assert_eq!(monitor.killed_by(), Some(9));
}

#[test]
fn placing_a_monitor_that_has_ended_or_with_a_slice_is_an_error_that_says_so() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let mut monitor = Process::sleeping();
    let pid = monitor.pid();
    let slice = cgroups
        .place_monitor(pid, ID, parent, "system.slice")
        .unwrap_err();
    assert!(slice.to_string().contains("\"pod\""), "{slice}");
    monitor.0.kill().unwrap();
    monitor.0.wait().unwrap();
    let ended = cgroups.place_monitor(pid, ID, parent, "").unwrap_err();
    assert!(matches!(ended, CgroupError::NoProcess { .. }), "{ended}");
}

/// A process with a child in a cgroup below the container's, as a container with its own
/// writable cgroup has it.
fn nested(scratch: &Scratch) -> (String, Process, Process) {
    let path = scratch.container();
    let inner = format!("{path}/deep/er");
    scratch.make(&inner);
    let (outer_process, inner_process) = (Process::sleeping(), Process::sleeping());
    scratch.move_in(&path, outer_process.pid());
    scratch.move_in(&inner, inner_process.pid());
    (path, outer_process, inner_process)
}

fn all_processes_are_listed_killed_and_the_tree_removed(scratch: &Scratch) {
    let (path, mut outer, mut inner) = nested(scratch);
    let listed: BTreeSet<u32> = scratch
        .cgroups
        .processes(&path)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(listed, BTreeSet::from([outer.pid(), inner.pid()]));

    let busy = scratch.cgroups.remove(&path).unwrap_err();
    assert!(matches!(busy, CgroupError::Busy { .. }), "{busy}");
    assert!(!scratch.existing(&path).is_empty());

    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    assert_eq!(scratch.cgroups.processes(&path).unwrap(), [] as [u32; 0]);
    assert_eq!((outer.killed_by(), inner.killed_by()), (Some(9), Some(9)));
    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    for _ in 0..2 {
        scratch.cgroups.remove(&path).unwrap();
        assert_eq!(scratch.existing(&path).len(), 0);
        scratch.cgroups.kill(&path, PATIENCE).unwrap();
    }
}

#[test]
fn kill_and_remove_reach_cgroups_below_on_this_host() {
    all_processes_are_listed_killed_and_the_tree_removed(&Scratch::host());
}

#[test]
fn kill_and_remove_reach_cgroups_below_on_cgroup2() {
    if let Some(scratch) = Scratch::unified() {
        all_processes_are_listed_killed_and_the_tree_removed(&scratch);
    }
}

#[test]
fn a_frozen_container_dies_also_where_it_froze_a_part_itself() {
    let scratch = Scratch::host();
    let freezer = scratch
        .cgroups
        .hierarchies
        .iter()
        .find(|each| each.holds(Controller::Freezer));
    let (path, mut outer, mut inner) = nested(&scratch);
    let relative = CgroupPath::parse(&path).unwrap();
    match freezer {
        Some(freezer) => {
            let dir = tree::shown(freezer, &relative);
            std::fs::write(dir.join("deep/er/freezer.state"), "FROZEN").unwrap();
            std::fs::write(dir.join("freezer.state"), "FROZEN").unwrap();
        }
        None => {
            let dir = tree::shown(&scratch.cgroups.hierarchies[0], &relative);
            std::fs::write(dir.join("cgroup.freeze"), "1").unwrap();
        }
    }
    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    assert_eq!((outer.killed_by(), inner.killed_by()), (Some(9), Some(9)));
}

/// Forks as fast as it can, each child the same; bounded by its own depth, not by us.
const FORKING: &str = "echo up; f() { sh -c : & sh -c : & (f) & wait; f; }; f";

fn a_process_that_keeps_forking_is_ended(scratch: &Scratch) {
    let path = scratch.container();
    scratch.make(&path);
    if let Some(pids) = scratch
        .cgroups
        .hierarchies
        .iter()
        .find(|h| h.holds(Controller::Pids))
    {
        let dir = tree::shown(pids, &CgroupPath::parse(&path).unwrap());
        std::fs::write(dir.join("pids.max"), "60").unwrap();
    }
    // Started outside it would fork outside; it waits for the end of its input first.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read line; {FORKING}")]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = Process(command.spawn().unwrap());
    scratch.move_in(&path, process.pid());
    drop(process.0.stdin.take());
    assert_eq!(process.line(), "up\n");
    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    assert_eq!(scratch.cgroups.processes(&path).unwrap(), [] as [u32; 0]);
    assert_eq!(process.killed_by(), Some(9));
}

#[test]
fn a_container_that_keeps_forking_is_ended_on_this_host() {
    a_process_that_keeps_forking_is_ended(&Scratch::host());
}

#[test]
fn the_daemons_own_cgroup_is_never_killed() {
    let Some(scratch) = Scratch::unified() else {
        return;
    };
    let path = format!("{}/own", scratch.parent);
    scratch.make(&path);
    // Not this test process: a thread's cgroup is that of the whole process, other tests' too.
    // A listing in which the own cgroup is the scratch stands in for it.
    let own = format!("0::{path}/deeper\n");
    let mount = &scratch.cgroups.hierarchies[0].mount;
    let own = layout::own_path(&own, mount).unwrap();
    assert!(CgroupPath::parse(&scratch.parent).unwrap().holds(&own));
    assert!(CgroupPath::parse(&path).unwrap().holds(&own));
    assert!(scratch.cgroups.kill("/", PATIENCE).is_err());
}

#[test]
fn a_symlink_or_a_mount_in_the_way_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let inside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("victim")).unwrap();
    symlink(outside.path(), inside.path().join("pod")).unwrap();
    // A directory of ours plays the mount point, for cgroup file systems have no symlinks.
    let mount = Mount {
        point: inside.path().to_owned(),
        root: "/".to_owned(),
        kind: Kind::Legacy("memory".to_owned()),
    };
    let cgroups = Cgroups::open(Manager::Cgroupfs, vec![mount]).unwrap();
    for result in [
        cgroups.remove("/pod/victim"),
        cgroups.kill("/pod/victim", PATIENCE),
        cgroups.create_sandbox("/pod", ID),
        cgroups.stats("/pod/victim").map(drop),
    ] {
        assert!(matches!(result, Err(CgroupError::Io { .. })), "{result:?}");
    }
    assert!(outside.path().join("victim").exists());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn figures_of_a_working_process_are_seen_and_end_with_the_cgroup() {
    let scratch = Scratch::host();
    let path = scratch.container();
    scratch.make(&path);
    let mut command = Command::new("sh");
    let script =
        "read line; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up; sleep 1000";
    command
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    scratch.move_in(&path, process.pid());
    drop(process.0.stdin.take());
    assert_eq!(process.line(), "up\n");

    let reader = scratch.cgroups.reader(&path).unwrap();
    let stats = reader.sample_all().unwrap();
    let cpu = stats.cpu.as_ref().unwrap();
    assert!(cpu.usage_ns > 1_000_000, "{cpu:?}");
    let memory = stats.memory.as_ref().unwrap();
    assert!(
        memory.usage_bytes > 0 && memory.page_faults > 0,
        "{memory:?}"
    );
    assert!(memory.working_set_bytes <= memory.usage_bytes);
    assert_eq!((memory.limit_bytes, memory.available_bytes()), (None, 0));
    assert_eq!(memory.oom_kills, Some(0));
    assert_eq!(memory.swap.is_some(), scratch.cgroups.controllers().swap);
    assert_eq!(stats.pids.unwrap().limit, None);
    assert!((1..=2).contains(&stats.pids.unwrap().current));
    assert_eq!(stats.io.is_some(), scratch.cgroups.controllers().io);
    let pod = scratch
        .cgroups
        .stats(&scratch.cgroups.pod_path(&scratch.parent).unwrap())
        .unwrap();
    assert!(pod.cpu.unwrap().usage_ns >= cpu.usage_ns);

    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    scratch.cgroups.remove(&path).unwrap();
    for made_again in [false, true] {
        if made_again {
            scratch.make(&path);
        }
        let gone = reader.sample().unwrap_err();
        assert!(matches!(gone, CgroupError::Gone { .. }), "{gone}");
    }
}

#[test]
fn the_memory_limit_of_a_pod_is_its_own_and_a_missing_pod_has_none() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    assert_eq!(cgroups.memory_limit(parent).unwrap(), None);
    scratch.make(parent);
    assert_eq!(cgroups.memory_limit(parent).unwrap(), None);
    let file = if cgroups.version() == Version::V1 {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    let memory = cgroups
        .hierarchies
        .iter()
        .find(|each| each.holds(Controller::Memory))
        .unwrap();
    let path = tree::shown(memory, &CgroupPath::parse(parent).unwrap());
    std::fs::write(path.join(file), "16777216").unwrap();
    assert_eq!(cgroups.memory_limit(parent).unwrap(), Some(16_777_216));
}

#[test]
fn a_very_deep_tree_is_removed_with_few_open_files() {
    let Some(scratch) = Scratch::unified() else {
        return;
    };
    let top = CgroupPath::parse(&scratch.container()).unwrap();
    let mut here = scratch.cgroups.hierarchies[0].ensure(&top).unwrap();
    // Deeper than a path can be long: 20 * 250 bytes.
    let name = "n".repeat(250);
    for _ in 0..20 {
        rustix::fs::mkdirat(&here, name.as_str(), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        here = rustix::fs::openat(&here, name.as_str(), flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(here);
    scratch.cgroups.remove(&scratch.container()).unwrap();
    assert_eq!(scratch.existing(&scratch.container()).len(), 0);
}

/// Not a check but a measurement: `cargo test --release cgroup::tests::cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn cost() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let path = scratch.container();
    scratch.make(&path);
    let process = Process::sleeping();
    scratch.move_in(&path, process.pid());
    let time = |what: &str, count: u32, work: &mut dyn FnMut()| {
        work();
        let start = std::time::Instant::now();
        for _ in 0..count {
            work();
        }
        eprintln!("{what}: {:?}", start.elapsed() / count);
    };
    let reader = cgroups.reader(&path).unwrap();
    time("sample", 5000, &mut || drop(reader.sample().unwrap()));
    time("sample_all", 5000, &mut || {
        drop(reader.sample_all().unwrap())
    });
    time("open reader", 5000, &mut || {
        drop(cgroups.reader(&path).unwrap())
    });
    time("processes", 5000, &mut || {
        drop(cgroups.processes(&path).unwrap())
    });
    let id = &ID[..63];
    time("sandbox create and remove", 500, &mut || {
        cgroups.create_sandbox(parent, id).unwrap();
        cgroups.remove_sandbox(parent, id).unwrap();
    });
    let monitor = Process::sleeping();
    time("place monitor", 500, &mut || {
        cgroups
            .place_monitor(monitor.pid(), id, parent, "")
            .unwrap();
    });
    time("remove of nothing", 5000, &mut || {
        cgroups.remove_container(parent, id).unwrap()
    });
}
