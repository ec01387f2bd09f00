//! Names: where the cgroup of a pod, a container and a monitor stands in the tree.
//!
//! Everything here is text to text. A [`CgroupPath`] is the only form in which a path reaches a
//! system call: relative to a mount point, without `.`, `..`, empty or odd components.

use super::error::{CgroupError, quote};

/// Which convention names the cgroups: `cgroup_manager` of crio.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// The daemon and the OCI runtime make directories themselves.
    Cgroupfs,
    /// systemd owns the tree; containers are transient scopes in slices.
    Systemd,
}

/// Prefix of every cgroup of ours. cAdvisor finds containers by it, see `cAdvisor`'s crio handler.
pub(super) const PREFIX: &str = "crio";
/// Parent of pods for which the kubelet (or critest, crictl) names none; CRI-O's choice.
const DEFAULT_PARENT: &str = "/crio";
/// The same under systemd.
pub(super) const DEFAULT_SLICE: &str = "system.slice";
/// The longest path taken from a request. The kernel's own bound for a path is 4096; the names of
/// controllers, scopes and files still have to fit behind it.
const MAX_PATH: usize = 3072;
/// The longest component: NAME_MAX.
const MAX_NAME: usize = 255;
/// The longest id: container ids have 64 characters, tests and tools shorter ones.
const MAX_ID: usize = 128;

/// A checked path relative to the mount point of a hierarchy; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupPath(String);

impl CgroupPath {
    /// Takes an absolute path such as `/kubepods/pod1/crio-2`.
    pub(super) fn parse(text: &str) -> Result<CgroupPath, &'static str> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err("it must be absolute");
        };
        if text.len() > MAX_PATH {
            return Err("it is longer than 3072 bytes");
        }
        let relative = relative.trim_end_matches('/');
        if relative.is_empty() {
            return Err("it is the root of the cgroup tree");
        }
        for name in relative.split('/') {
            check_component(name)?;
        }
        Ok(CgroupPath(relative.to_owned()))
    }

    /// The path relative to the mount point, without a leading slash.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The parent (`None`: the root) and the last component.
    pub(super) fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => (Some(parent), name),
            None => (None, &self.0),
        }
    }

    /// The path of a cgroup below this one; `name` is one of ours.
    pub(super) fn child(&self, name: &str) -> CgroupPath {
        CgroupPath(format!("{}/{name}", self.0))
    }

    /// True if `other` (relative, empty for the root) is this cgroup or lies below it.
    pub(super) fn holds(&self, other: &str) -> bool {
        other
            .strip_prefix(self.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0)
    }
}

fn check_component(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it has an empty component (\"//\")"),
        "." | ".." => Err("it must not contain \".\" or \"..\""),
        _ if name.len() > MAX_NAME => Err("it has a component longer than 255 bytes"),
        // The kernel refuses a newline in a cgroup's name; the others only serve to deceive
        // whoever reads a log, or end the string at the system call (NUL).
        _ if name.chars().any(char::is_control) => Err("it contains a control character"),
        _ => Ok(()),
    }
}

/// Where the cgroups of one pod stand: `linux.cgroup_parent`, checked, in both spellings.
#[derive(Debug)]
pub(super) struct Parent {
    /// The pod's cgroup below a mount point.
    pub(super) path: CgroupPath,
    /// Under systemd the slice's name, such as `kubepods-pod1.slice`.
    slice: Option<String>,
}

impl Parent {
    /// Checks `linux.cgroup_parent` of a new pod, which must be one of this manager's.
    pub(super) fn for_new(manager: Manager, parent: &str) -> Result<Parent, CgroupError> {
        let found = Parent::parse(manager, parent)?;
        let reason = match (manager, &found.slice) {
            (Manager::Cgroupfs, Some(_)) => {
                "this is a systemd slice, but cgroup_manager is \"cgroupfs\": set the kubelet's \
                 cgroupDriver to cgroupfs, or cgroup_manager to \"systemd\""
            }
            (Manager::Systemd, None) => {
                "this is not a systemd slice, but cgroup_manager is \"systemd\": set the kubelet's \
                 cgroupDriver to systemd, or cgroup_manager to \"cgroupfs\""
            }
            _ => return Ok(found),
        };
        Err(CgroupError::Parent {
            parent: quote(parent),
            reason: reason.to_owned(),
        })
    }

    /// Reads `linux.cgroup_parent`. The kubelet sends a file system path also for a slice
    /// (`/kubepods.slice/kubepods-pod1.slice`), of which the last component is the slice. A parent
    /// that is named tells whose it is, also when the manager has changed since.
    pub(super) fn parse(manager: Manager, parent: &str) -> Result<Parent, CgroupError> {
        let fault = |reason: &str| CgroupError::Parent {
            parent: quote(parent),
            reason: reason.to_owned(),
        };
        let text = match (parent, manager) {
            ("", Manager::Systemd) => DEFAULT_SLICE,
            ("", Manager::Cgroupfs) => DEFAULT_PARENT,
            _ => parent,
        };
        let base = text.trim_end_matches('/').rsplit('/').next();
        let Some(slice) = base.filter(|base| base.ends_with(".slice")) else {
            let path = CgroupPath::parse(text).map_err(fault)?;
            return Ok(Parent { path, slice: None });
        };
        // Only the last component counts, but the others must not be nonsense.
        if text.contains('/') {
            CgroupPath::parse(text).map_err(fault)?;
        }
        Ok(Parent {
            path: expand_slice(slice).map_err(fault)?,
            slice: Some(slice.to_owned()),
        })
    }

    /// `linux.cgroupsPath` of the OCI spec for a container of this pod.
    pub(super) fn container(&self, id: &str) -> Result<String, CgroupError> {
        check_id(id)?;
        Ok(match &self.slice {
            Some(slice) => format!("{slice}:{PREFIX}:{id}"),
            None => self.path.child(&format!("{PREFIX}-{id}")).to_string(),
        })
    }

    /// The pod's own cgroup without processes, which cAdvisor wants to see. Under systemd it is a
    /// plain directory too: a scope needs a process, and a slice cannot have this name.
    pub(super) fn sandbox(&self, id: &str) -> Result<CgroupPath, CgroupError> {
        check_id(id)?;
        Ok(self.path.child(&format!("{PREFIX}-{id}")))
    }

    /// The cgroup of the container's monitor, `None` where that is a scope. cAdvisor leaves out names
    /// with `crio-conmon`.
    pub(super) fn monitor(&self, id: &str) -> Result<Option<CgroupPath>, CgroupError> {
        check_id(id)?;
        let path = || self.path.child(&format!("{PREFIX}-conmon-{id}"));
        Ok(self.slice.is_none().then(path))
    }

    /// The slice's name, under systemd.
    pub(super) fn slice(&self) -> Option<&str> {
        self.slice.as_deref()
    }
}

/// The scope of a container's monitor.
pub(super) fn monitor_scope(id: &str) -> Result<String, CgroupError> {
    check_id(id)?;
    Ok(format!("{PREFIX}-conmon-{id}.scope"))
}

/// The scope of a container or pause process.
pub(super) fn container_scope(id: &str) -> Result<String, CgroupError> {
    check_id(id)?;
    Ok(format!("{PREFIX}-{id}.scope"))
}

/// The directory of an OCI `cgroupsPath`: `/a/b`, or `slice:prefix:id` under systemd.
pub(super) fn directory(path: &str) -> Result<CgroupPath, CgroupError> {
    let fault = |reason| CgroupError::Path {
        path: quote(path),
        reason,
    };
    if path.starts_with('/') {
        return CgroupPath::parse(path).map_err(fault);
    }
    let mut parts = path.split(':');
    let (Some(slice), Some(prefix), Some(id), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(fault(
            "it must be absolute or have the form slice:prefix:id",
        ));
    };
    check_id(prefix)?;
    check_id(id)?;
    let parent = expand_slice(slice).map_err(fault)?;
    Ok(parent.child(&format!("{prefix}-{id}.scope")))
}

/// The directory of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
pub(super) fn expand_slice(slice: &str) -> Result<CgroupPath, &'static str> {
    let Some(stem) = slice.strip_suffix(".slice") else {
        return Err("it is not a slice: those end in \".slice\"");
    };
    check_component(slice)?;
    if stem == "-" {
        return Err("it is the root of the cgroup tree");
    }
    // systemd.unit(5), without ':', which separates the parts of an OCI cgroupsPath, and '@'.
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.\\".contains(c);
    if !slice.chars().all(legal) || stem.split('-').any(str::is_empty) {
        return Err(
            "it is not a valid slice name: parts between '-' are not empty and hold letters, \
             digits, '_', '.' and '\\', anything else escaped as by systemd-escape(1)",
        );
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path = format!("{path}/{}.slice", &stem[..end]);
    }
    CgroupPath::parse(&path)
}

fn check_id(id: &str) -> Result<(), CgroupError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(plain) {
        return Err(CgroupError::Id { id: quote(id) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_by_its_parent_and_id_as_in_crio() {
        let table = [
            (
                Manager::Cgroupfs,
                "/kubepods/burstable/pod1",
                "/kubepods/burstable/pod1/crio-ab",
            ),
            (Manager::Cgroupfs, "/kubepods/", "/kubepods/crio-ab"),
            (Manager::Cgroupfs, "", "/crio/crio-ab"),
            (
                Manager::Systemd,
                "/kubepods.slice/kubepods-pod1_2.slice",
                "kubepods-pod1_2.slice:crio:ab",
            ),
            (Manager::Systemd, "/test.slice", "test.slice:crio:ab"),
            (Manager::Systemd, "test.slice", "test.slice:crio:ab"),
            (Manager::Systemd, "", "system.slice:crio:ab"),
        ];
        for (manager, parent, want) in table {
            let got = Parent::parse(manager, parent)
                .unwrap()
                .container("ab")
                .unwrap();
            assert_eq!(got, want, "{manager:?} {parent:?}");
        }
    }

    #[test]
    fn a_hostile_or_mismatched_parent_is_refused_by_field_name() {
        let long = format!("/{}", "a".repeat(256));
        let huge = "/abc".repeat(1000);
        let table = [
            (Manager::Cgroupfs, "/a/../b", "\"..\""),
            (Manager::Cgroupfs, "/..", "\"..\""),
            (Manager::Cgroupfs, "/a/./b", "\"..\""),
            (Manager::Cgroupfs, "/a//b", "empty component"),
            (Manager::Cgroupfs, "a/b", "absolute"),
            (Manager::Cgroupfs, "/", "root of the cgroup tree"),
            (Manager::Cgroupfs, "/a\0b", "control character"),
            (Manager::Cgroupfs, "/a\nb", "control character"),
            (Manager::Cgroupfs, long.as_str(), "255 bytes"),
            (Manager::Cgroupfs, huge.as_str(), "3072 bytes"),
            (
                Manager::Cgroupfs,
                "/test.slice",
                "cgroup_manager is \"cgroupfs\"",
            ),
            (
                Manager::Systemd,
                "/kubepods/pod1",
                "cgroup_manager is \"systemd\"",
            ),
            (Manager::Systemd, "/../x.slice", "\"..\""),
            (Manager::Systemd, "/a--b.slice", "slice name"),
            (Manager::Systemd, "/a:b.slice", "slice name"),
            (Manager::Systemd, "/-.slice", "root of the cgroup tree"),
            (Manager::Systemd, "/.slice", "slice name"),
            (Manager::Systemd, "/a b.slice", "systemd-escape"),
            (Manager::Systemd, "/a@b.slice", "slice name"),
            (Manager::Systemd, "/a.slice/b/", "not a systemd slice"),
            (
                Manager::Systemd,
                &format!("/{}.slice", "a".repeat(250)),
                "255 bytes",
            ),
        ];
        for (manager, parent, want) in table {
            let message = Parent::for_new(manager, parent).unwrap_err().to_string();
            assert!(message.starts_with("linux.cgroup_parent "), "{message}");
            assert!(message.contains(want), "{manager:?} {parent:?}: {message}");
            assert!(message.len() < 600, "{message}");
        }
    }

    #[test]
    fn a_pod_of_another_manager_is_still_found() {
        for manager in [Manager::Cgroupfs, Manager::Systemd] {
            let slice = Parent::parse(manager, "/a.slice/a-b.slice").unwrap();
            assert_eq!(slice.container("ab").unwrap(), "a-b.slice:crio:ab");
            let plain = Parent::parse(manager, "/kubepods/pod1").unwrap();
            assert_eq!(plain.container("ab").unwrap(), "/kubepods/pod1/crio-ab");
        }
    }

    #[test]
    fn a_slice_lies_in_the_slices_that_its_name_spells() {
        let path = directory("kubepods-burstable-pod1.slice:crio:ab").unwrap();
        assert_eq!(
            path.to_string(),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-ab.scope"
        );
        let parent = Parent::parse(Manager::Systemd, "/a.slice/a-b.slice").unwrap();
        assert_eq!(parent.path.to_string(), "/a.slice/a-b.slice");
        assert_eq!(
            parent.sandbox("ab").unwrap().to_string(),
            "/a.slice/a-b.slice/crio-ab"
        );
        assert_eq!(parent.monitor("ab").unwrap(), None);
        assert_eq!(monitor_scope("ab").unwrap(), "crio-conmon-ab.scope");
    }

    #[test]
    fn an_id_that_could_leave_its_directory_is_refused() {
        let parent = Parent::parse(Manager::Cgroupfs, "/a").unwrap();
        for id in ["", "../b", "a/b", "a:b", "a\0", &"a".repeat(129)] {
            assert!(
                matches!(parent.container(id), Err(CgroupError::Id { .. })),
                "{id:?}"
            );
            assert!(
                matches!(parent.monitor(id), Err(CgroupError::Id { .. })),
                "{id:?}"
            );
        }
    }

    #[test]
    fn a_cgroup_holds_itself_and_what_is_below_it() {
        let path = CgroupPath::parse("/a/b").unwrap();
        for (other, want) in [
            ("a/b", true),
            ("a/b/c", true),
            ("a/bc", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(path.holds(other), want, "{other:?}");
        }
    }
}
