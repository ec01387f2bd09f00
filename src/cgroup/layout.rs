//! Which hierarchies the host mounts, and which of them hold which controllers.
//!
//! Three layouts exist: unified (one cgroup2 mount with all controllers), legacy (one cgroup v1
//! mount for each controller or group of them) and hybrid (legacy, and a cgroup2 mount without
//! controllers that systemd uses to follow processes).

use std::path::{Path, PathBuf};

use crate::sys::mountinfo;

/// Controllers that the daemon has to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Pids,
    Io,
    Hugetlb,
    Freezer,
}

impl Controller {
    /// The controller of this name in v1's mount options or v2's `cgroup.controllers`.
    pub(super) fn parse(name: &str) -> Option<Controller> {
        Some(match name {
            "cpu" => Controller::Cpu,
            "cpuacct" => Controller::Cpuacct,
            "cpuset" => Controller::Cpuset,
            "memory" => Controller::Memory,
            "pids" => Controller::Pids,
            "io" | "blkio" => Controller::Io,
            "hugetlb" => Controller::Hugetlb,
            "freezer" => Controller::Freezer,
            _ => return None,
        })
    }
}

/// What a mounted hierarchy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// cgroup2.
    Unified,
    /// cgroup v1 with controllers, in the kernel's spelling (`cpu,cpuacct`).
    Legacy(String),
    /// cgroup v1 without controllers, `name=systemd`.
    Named(String),
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// The cgroup that the mount point shows: `/`, except in some containers.
    pub(super) root: String,
    /// What it is.
    pub(super) kind: Kind,
}

/// The directory that OCI runtimes look at first. Where a hierarchy is mounted several times, the
/// daemon must work on the same mount as they do.
const USUAL_PLACE: &str = "/sys/fs/cgroup";

/// Every controller of cgroup v1, to tell them from mount flags. Those that [`Controller`] lacks are
/// neither written nor read by us, but the OCI runtime makes a directory in each, and what it
/// leaves behind has to go.
const LEGACY: [&str; 15] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "pids",
    "blkio",
    "hugetlb",
    "freezer",
    "devices",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
    "debug",
];

/// Reads the hierarchies from the text of /proc/self/mountinfo (proc_pid_mountinfo(5)), each once.
pub(super) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in text.lines().filter_map(parse_mount) {
        match mounts.iter_mut().find(|known| known.kind == mount.kind) {
            Some(known) if !usual(&known.point) && usual(&mount.point) => *known = mount,
            Some(_) => {}
            None => mounts.push(mount),
        }
    }
    mounts
}

fn usual(point: &Path) -> bool {
    point.starts_with(USUAL_PLACE)
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (place, filesystem) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, _source, options) = (filesystem.next()?, filesystem.next()?, filesystem.next()?);
    let kind = match kind {
        "cgroup2" => Kind::Unified,
        "cgroup" => {
            let name = options
                .split(',')
                .find_map(|option| option.strip_prefix("name="));
            match name {
                Some(name) => Kind::Named(name.to_owned()),
                None => {
                    let known = |option: &&str| LEGACY.contains(option);
                    let controllers: Vec<&str> = options.split(',').filter(known).collect();
                    Kind::Legacy(controllers.join(","))
                }
            }
        }
        _ => return None,
    };
    Some(Mount {
        point: unescape(point).into(),
        root: unescape(root),
        kind,
    })
}

/// Paths of cgroup mounts are UTF-8.
fn unescape(text: &str) -> String {
    String::from_utf8_lossy(&mountinfo::unescape(text.as_bytes())).into_owned()
}

/// The cgroup of a process in one hierarchy, relative to the mount point and without a leading
/// slash (empty: the root), from the text of /proc/<pid>/cgroup (cgroups(7)). `None` if it lies
/// outside of what the mount shows.
pub(super) fn own_path(proc_cgroup: &str, mount: &Mount) -> Option<String> {
    let wanted = |controllers: &str| match &mount.kind {
        Kind::Unified => controllers.is_empty(),
        Kind::Named(name) => controllers.strip_prefix("name=") == Some(name),
        Kind::Legacy(names) => names
            .split(',')
            .next()
            .is_some_and(|first| controllers.split(',').any(|controller| controller == first)),
    };
    let path = proc_cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        wanted(controllers).then_some(path)
    })?;
    let root = mount.root.trim_end_matches('/');
    let below = path.strip_prefix(root)?;
    match below.strip_prefix('/') {
        Some(relative) => Some(relative.trim_end_matches('/').to_owned()),
        None if below.is_empty() => Some(String::new()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn a_hybrid_host_shows_each_hierarchy_with_its_controllers() {
        let kinds: Vec<Kind> = parse_mountinfo(HYBRID)
            .into_iter()
            .map(|mount| mount.kind)
            .collect();
        assert_eq!(
            kinds,
            [
                Kind::Legacy("cpu,cpuacct".into()),
                Kind::Legacy("memory".into()),
                Kind::Legacy("devices".into()),
                Kind::Named("systemd".into()),
                Kind::Unified,
            ]
        );
    }

    #[test]
    fn a_hierarchy_mounted_twice_counts_where_runtimes_look_for_it() {
        let text = "\
50 1 0:40 / /mnt/other\\040place rw - cgroup2 cgroup2 rw
51 1 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
52 1 0:40 /x /run/third rw - cgroup2 cgroup2 rw
";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point, Path::new("/sys/fs/cgroup"));
        let lone = parse_mountinfo(text.lines().next().unwrap());
        assert_eq!(lone[0].point, Path::new("/mnt/other place"));
    }

    #[test]
    fn lines_that_are_no_cgroup_mounts_are_passed_over() {
        for text in [
            "",
            "garbage",
            "1 2 3",
            "1 2 0:1 / /x rw - cgroup2",
            " - cgroup2 a b",
        ] {
            assert_eq!(parse_mountinfo(text), [], "{text:?}");
        }
    }

    #[test]
    fn the_own_cgroup_is_relative_to_what_the_mount_shows() {
        let proc = "5:cpu,cpuacct:/a\n4:memory:/docker/1/b:c\n1:name=systemd:/init.scope\n0::/\n";
        let mount = |kind: Kind, root: &str| Mount {
            point: "/x".into(),
            root: root.into(),
            kind,
        };
        let table = [
            (mount(Kind::Legacy("cpu".into()), "/"), Some("a")),
            (
                mount(Kind::Legacy("memory".into()), "/docker/1"),
                Some("b:c"),
            ),
            (mount(Kind::Legacy("memory".into()), "/docker/12"), None),
            (mount(Kind::Legacy("pids".into()), "/"), None),
            (
                mount(Kind::Named("systemd".into()), "/init.scope"),
                Some(""),
            ),
            (mount(Kind::Unified, "/"), Some("")),
        ];
        for (mount, want) in table {
            assert_eq!(own_path(proc, &mount).as_deref(), want, "{mount:?}");
        }
    }
}
