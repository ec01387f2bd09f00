//! Killing and removing, against the kernel.

use std::collections::BTreeSet;

use super::*;

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
    // The kernel's listing is played: to try it for real would risk this test run.
    let hierarchy = &scratch.cgroups.hierarchies[0];
    let table = [
        ("/system.slice", true),
        ("/system.slice/crio.service", true),
        ("/kubepods", false),
    ];
    for (path, want) in table {
        let path = CgroupPath::parse(path).unwrap();
        let own = "4:memory:/kubepods\n0::/system.slice/crio.service\n";
        assert_eq!(kill::holds_daemon(hierarchy, &path, own), want, "{path}");
    }
    for root in ["/", "//", ""] {
        let refused = scratch.cgroups.kill(root, PATIENCE);
        assert!(
            matches!(refused, Err(CgroupError::Path { .. })),
            "{refused:?}"
        );
    }
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
