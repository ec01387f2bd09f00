//! What the whole machine holds that a run of the tests can have made, to be compared before and
//! after `make test`.
//!
//! Only what can be ours is counted, by its name or place: on a machine that is in use, logins,
//! services and other people's containers come and go meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::node::{BRIDGE, CGROUP_PREFIX, SCRATCH_PREFIX};
use crate::{leaks, tools};

/// Top cgroups of the harness, of the daemon's own tests of cgroups, and of the benchmark.
const CGROUPS: [&str; 3] = [CGROUP_PREFIX, "crickettest-", "cricket-bench"];
/// Bridges that a test's or cricket's example CNI configuration names.
const BRIDGES: [&str; 2] = [BRIDGE, "cni0"];
/// Directories below a `namespaces_dir`; a file there is named by its sandbox.
const NAMESPACES: [&str; 4] = ["netns", "ipcns", "utsns", "userns"];
/// Programs that the tests start; they are ours if the file or the arguments are.
const PROGRAMS: [&str; 6] = [
    "cricket",
    "conmon",
    "pause",
    "docker-registry",
    "fixture-registry",
    "bench-cri",
];

/// See the module.
#[derive(Debug)]
pub struct Machine {
    things: BTreeSet<String>,
}

impl Machine {
    /// Looks at mounts, cgroups, links, pinned network namespaces, processes, the states of OCI
    /// runtimes and scratch directories.
    pub fn look() -> Machine {
        let mounts = leaks::mounts();
        let mut things = BTreeSet::new();
        things.extend(
            mounts
                .iter()
                .filter(|at| our_mount(Path::new(at)))
                .map(|at| format!("mount {at}")),
        );
        let cgroups = leaks::cgroups().into_iter();
        things.extend(
            cgroups
                .filter(|path| our_cgroup(path, &mounts))
                .map(|path| format!("cgroup {}", path.display())),
        );
        let links = our_links(Path::new("/sys/class/net")).into_iter();
        things.extend(links.map(|name| format!("link {name}")));
        for (kind, dir) in [
            ("netns", "/run/netns"),
            ("runc state", "/run/runc"),
            ("crun state", "/run/crun"),
        ] {
            let ours = names(Path::new(dir)).into_iter().filter(|name| is_id(name));
            things.extend(ours.map(|name| format!("{kind} {name}")));
        }
        things.extend(
            our_processes()
                .into_iter()
                .map(|(pid, facts)| format!("process {pid} {facts}")),
        );
        let temp = std::env::temp_dir();
        let scratch = names(&temp).into_iter();
        things.extend(
            scratch
                .filter(|name| name.starts_with(SCRATCH_PREFIX))
                .map(|name| format!("dir {}", temp.join(name).display())),
        );
        let others = other_runs();
        things.retain(|thing| !others.iter().any(|tag| thing.contains(tag)));
        Machine { things }
    }

    /// One thing a line, to be kept in a file.
    pub fn to_text(&self) -> String {
        self.things
            .iter()
            .map(|thing| format!("{thing}\n"))
            .collect()
    }

    /// What is here now and was not in `before`.
    pub fn beyond<'a>(&'a self, before: &str) -> Vec<&'a str> {
        let before: BTreeSet<&str> = before.lines().collect();
        self.things
            .iter()
            .map(String::as_str)
            .filter(|now| !before.contains(now))
            .collect()
    }
}

/// Starts of paths in the scratch directories: the harness's, and those of crate tempfile, which
/// the unit tests use.
fn scratch() -> [String; 2] {
    let temp = std::env::temp_dir();
    [SCRATCH_PREFIX, ".tmp"].map(|prefix| temp.join(prefix).to_string_lossy().into_owned())
}

/// In a scratch directory, in cricket's own directories, or a pinned namespace of a sandbox. Not
/// any path with an id: other runtimes' layers and containers have such too.
fn our_mount(at: &Path) -> bool {
    let text = at.to_string_lossy();
    let words = ["/cricket/", "cricket-", "conmon"];
    let parent = at.parent().and_then(Path::file_name).unwrap_or_default();
    scratch().iter().any(|start| text.starts_with(start))
        || words.iter().any(|word| text.contains(word))
        || (NAMESPACES.iter().any(|dir| parent == *dir) && is_id(name(at)))
}

/// Below a top cgroup of the tests; a container's or monitor's, wherever it is; or named by an id
/// alone at the top of a hierarchy, where runc puts what names no cgroup.
fn our_cgroup(path: &Path, mounts: &[String]) -> bool {
    let text = path.to_string_lossy();
    let own = name(path)
        .strip_prefix("crio-")
        .map(|rest| rest.strip_prefix("conmon-").unwrap_or(rest))
        .map(|rest| rest.strip_suffix(".scope").unwrap_or(rest));
    let top = |path: &Path| {
        path.parent()
            .is_some_and(|parent| mounts.iter().any(|at| Path::new(at) == parent))
    };
    CGROUPS
        .iter()
        .any(|start| text.contains(&format!("/{start}")))
        || own.is_some_and(is_id)
        || (is_id(name(path)) && top(path))
}

/// Our bridges, and what is attached to the one that only the tests use.
fn our_links(dir: &Path) -> Vec<String> {
    let ours = |link: &String| {
        let master = fs::read_link(dir.join(link).join("master")).unwrap_or_default();
        BRIDGES.contains(&link.as_str()) || name(&master) == BRIDGE
    };
    names(dir).into_iter().filter(ours).collect()
}

/// Those that live in a scratch directory or a test's cgroup, and our programs that are told of a
/// scratch directory or were built in this source tree.
fn our_processes() -> BTreeMap<u32, String> {
    let [harness, tempfile] = scratch();
    let mut words = vec![
        harness,
        format!("cwd={tempfile}"),
        format!("root={tempfile}"),
    ];
    words.extend(CGROUPS.map(|start| format!("/{start}")));
    let mut found: BTreeMap<_, _> = leaks::processes_with(&words).into_iter().collect();
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let named = leaks::processes_with(&[tempfile]).into_iter();
    found.extend(named.filter(|(pid, _)| PROGRAMS.contains(&name(&program(*pid)))));
    let target = tools::workspace().join("target");
    for pid in leaks::pids().filter(|pid| *pid != std::process::id()) {
        let program = program(pid);
        if program.starts_with(&target) && PROGRAMS.contains(&name(&program)) {
            found.entry(pid).or_insert(program.display().to_string());
        }
    }
    found
}

/// What the scratch directory and the cgroup of a test of *another* checkout have in common, for each
/// that a daemon of that checkout serves now: such a run beside ours is none of our business.
fn other_runs() -> BTreeSet<String> {
    let target = tools::workspace().join("target");
    let prefix = std::env::temp_dir().join(SCRATCH_PREFIX);
    let prefix = prefix.to_string_lossy().into_owned();
    let daemons = leaks::processes_with(std::slice::from_ref(&prefix)).into_iter();
    let of_others = daemons.filter(|(pid, _)| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        name(&program) == "cricket" && !program.starts_with(&target)
    });
    let tag = |(_, facts): (u32, String)| {
        let (_, rest) = facts.split_once(&prefix)?;
        let tag = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        (!tag.is_empty()).then(|| tag.to_owned())
    };
    of_others.filter_map(tag).collect()
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// 64 lower-hex digits: a sandbox or container.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::process::{Child, Command};

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    /// A process, a mount and a cgroup; gone when dropped, also by a test that fails.
    struct Made {
        child: Child,
        mount: PathBuf,
        cgroups: Vec<PathBuf>,
    }

    impl Made {
        fn new(dir: &Path, cgroup: &str) -> Made {
            let at = dir.join("mounted");
            fs::create_dir(&at).unwrap();
            mount(
                Some("none"),
                &at,
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .unwrap();
            let mut cgroups = Vec::new();
            for point in leaks::mounts() {
                let point = Path::new(&point);
                if point.starts_with("/sys/fs/cgroup")
                    && point.join("cgroup.procs").exists()
                    && cgroups.is_empty()
                {
                    cgroups.push(point.join(cgroup));
                    fs::create_dir(point.join(cgroup)).unwrap();
                }
            }
            let child = Command::new("sleep")
                .arg("60")
                .current_dir(dir)
                .spawn()
                .unwrap();
            Made {
                child,
                mount: at,
                cgroups,
            }
        }

        /// How the three are reported, if they are.
        fn lines<'a>(&self, left: &[&'a str]) -> Vec<&'a str> {
            let mut wanted = vec![
                format!("mount {}", self.mount.display()),
                format!("process {} ", self.child.id()),
            ];
            wanted.extend(
                self.cgroups
                    .iter()
                    .map(|path| format!("cgroup {}", path.display())),
            );
            left.iter()
                .copied()
                .filter(|line| wanted.iter().any(|start| line.starts_with(start)))
                .collect()
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = umount2(&self.mount, MntFlags::MNT_DETACH);
            for cgroup in &self.cgroups {
                let _ = fs::remove_dir(cgroup);
            }
        }
    }

    #[test]
    fn what_a_test_leaves_is_reported_and_what_others_make_meanwhile_is_not() {
        let before = Machine::look().to_text();
        let scratch = |prefix| tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        let (our_dir, their_dir) = (scratch(SCRATCH_PREFIX), scratch("session-"));
        let number = std::process::id();
        let ours = Made::new(our_dir.path(), &format!("{CGROUP_PREFIX}leak{number}"));
        let theirs = Made::new(their_dir.path(), &format!("session-{number}.scope"));
        let now = Machine::look();
        let left = now.beyond(&before);
        assert_eq!(ours.lines(&left).len(), 3, "{left:?}");
        let dir = format!("dir {}", our_dir.path().display());
        assert!(left.contains(&dir.as_str()), "{left:?}");
        assert_eq!(theirs.lines(&left), Vec::<&str>::new());
        let number = our_dir.path().display().to_string();
        drop((ours, theirs, our_dir, their_dir));
        let after = Machine::look();
        assert!(
            !after
                .beyond(&before)
                .iter()
                .any(|line| line.contains(&number))
        );
    }

    #[test]
    fn cgroups_and_mounts_are_told_apart_by_name_and_place() {
        let id = "0123456789abcdef".repeat(4);
        let points = [
            "/sys/fs/cgroup".to_owned(),
            "/sys/fs/cgroup/pids".to_owned(),
        ];
        let cgroup = |path: &str| our_cgroup(&Path::new("/sys/fs/cgroup").join(path), &points);
        for ours in [
            "pids/cricket-test-abc/pod-x".to_owned(),
            "crickettest-7-0".into(),
            format!("kubepods/crio-{id}"),
            format!("a.slice/crio-conmon-{id}.scope"),
            format!("pids/{id}"),
            id.clone(),
        ] {
            assert!(cgroup(&ours), "{ours}");
        }
        for theirs in [
            "user.slice/user-0.slice/session-4.scope".to_owned(),
            "system.slice/ssh.service".into(),
            format!("docker/{id}"),
            format!("pids/docker/{id}"),
            format!("system.slice/docker-{id}.scope"),
            format!("machine.slice/libpod-{id}.scope"),
        ] {
            assert!(!cgroup(&theirs), "{theirs}");
        }
        let netns = format!("/run/netns/{id}");
        for ours in [netns.as_str(), "/run/containers/storage/cricket/x/shm"] {
            assert!(our_mount(Path::new(ours)), "{ours}");
        }
        let layer = format!("/var/lib/docker/overlay2/{id}/merged");
        for theirs in [layer.as_str(), "/run/user/0", "/run/netns/blue"] {
            assert!(!our_mount(Path::new(theirs)), "{theirs}");
        }
    }

    #[test]
    fn links_are_ours_by_name_or_by_their_bridge() {
        let dir = tempfile::tempdir().unwrap();
        for (link, master) in [
            (BRIDGE, None),
            ("veth1", Some(BRIDGE)),
            ("veth2", Some("br0")),
            ("tun0", None),
        ] {
            fs::create_dir(dir.path().join(link)).unwrap();
            if let Some(master) = master {
                let target = Path::new("../..").join(master);
                symlink(target, dir.path().join(link).join("master")).unwrap();
            }
        }
        let mut links = our_links(dir.path());
        links.sort();
        assert_eq!(links, [BRIDGE, "veth1"]);
    }
}
