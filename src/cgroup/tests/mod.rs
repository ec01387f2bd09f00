//! The room against the kernel: real cgroups below a name of this test run, real processes in
//! them. Needs root and a host with cgroup v1 (alone or hybrid) or v2; what a host lacks is
//! skipped with a line that says so.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::path::CgroupPath;
use super::*;

mod end;
mod figures;

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
            if hierarchy.unified {
                pass_controllers_on(hierarchy, path.as_str());
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

/// On cgroup v2 a cgroup has the controllers that those above it pass on, which one with processes
/// must not: the root and the parent of all containers do.
fn pass_controllers_on(hierarchy: &Hierarchy, path: &str) {
    let words = [
        (Controller::Memory, "+memory"),
        (Controller::Pids, "+pids"),
        (Controller::Io, "+io"),
    ];
    let mut here = hierarchy.point.clone();
    for name in path.split('/').take(2) {
        for (controller, word) in words {
            if hierarchy.holds(controller) {
                std::fs::write(here.join("cgroup.subtree_control"), word).unwrap();
            }
        }
        here.push(name);
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

fn a_monitor_leaves_the_daemons_cgroup_and_its_own_goes_after_it(scratch: &Scratch) {
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let mut monitor = Process::sleeping();
    cgroups
        .place_monitor(monitor.pid(), ID, parent, "pod")
        .unwrap();
    let shown = std::fs::read_to_string(format!("/proc/{}/cgroup", monitor.pid())).unwrap();
    let unified = scratch.cgroups.version() == Version::V2;
    let line = shown.lines().find(|line| {
        if unified {
            line.starts_with("0::")
        } else {
            line.contains(":memory:")
        }
    });
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
fn a_monitor_is_placed_on_this_host() {
    a_monitor_leaves_the_daemons_cgroup_and_its_own_goes_after_it(&Scratch::host());
}

#[test]
fn a_monitor_is_placed_on_cgroup2() {
    if let Some(scratch) = Scratch::unified() {
        a_monitor_leaves_the_daemons_cgroup_and_its_own_goes_after_it(&scratch);
    }
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
