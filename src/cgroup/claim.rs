//! Whose a cgroup is. CRI-O, and a second cricket, give theirs the same names, so those that the
//! daemon makes carry its mark.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::path::PREFIX;
use super::tree::{self, Stop};
use super::{CgroupError, Cgroups, Hierarchy};

/// Holds the run root of the daemon that made the cgroup. The kernel keeps it in memory and shows it
/// to the node's root alone.
const MARK: &str = "trusted.cricket";
/// The longest mark that is read: a path.
const MAX_MARK: usize = 4096;
/// How deep pods' cgroups may stand: the kubelet's are four levels deep.
const MAX_DEPTH: usize = 16;
/// The most cgroups that are looked at.
const MAX_CGROUPS: usize = 262_144;
/// Length of an id.
const ID: usize = 64;

/// A cgroup with one of our names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The pod or container.
    pub id: String,
    /// The cgroup, absolute below the mount point of its hierarchy, as [`Cgroups::remove`] takes it.
    pub path: String,
    /// Whether this daemon, or an earlier one of its run root, has made it. Containers' are made by the
    /// OCI runtime and never marked.
    pub is_ours: bool,
}

impl Cgroups {
    /// Marks what is made from now on as this daemon's, known by its run root.
    pub fn marked(mut self, run_root: &Path) -> Cgroups {
        self.mark = run_root.to_string_lossy().into_owned();
        self
    }

    /// All cgroups with names of ours, each once however many hierarchies it is in. What is below them
    /// is the container's and not looked at.
    ///
    /// # Errors
    /// When a hierarchy cannot be listed.
    pub fn named(&self) -> Result<Vec<Named>, CgroupError> {
        let mut found: Vec<Named> = Vec::new();
        for hierarchy in &self.hierarchies {
            self.named_in(hierarchy, &mut found)?;
        }
        found.sort_by(|a, b| (&a.path, b.is_ours).cmp(&(&b.path, a.is_ours)));
        found.dedup_by(|later, kept| later.path == kept.path);
        Ok(found)
    }

    fn named_in(&self, hierarchy: &Hierarchy, found: &mut Vec<Named>) -> Result<(), CgroupError> {
        let mut pending = vec![String::new()];
        let mut seen = 0;
        while let Some(above) = pending.pop() {
            let here = if above.is_empty() {
                "."
            } else {
                above.as_str()
            };
            let Some(dir) = hierarchy.enter(here)? else {
                continue;
            };
            let names = tree::children(dir.as_fd())
                .map_err(|errno| hierarchy.fault(here, "listing it", errno))?;
            for name in names {
                // A name that is not UTF-8 is none of ours; what is below it may be nobody's pod.
                let Ok(name) = name.into_string() else {
                    continue;
                };
                seen += 1;
                if seen > MAX_CGROUPS {
                    return Err(hierarchy.too_many(MAX_CGROUPS));
                }
                let path = format!("{above}/{name}");
                let path = path.trim_start_matches('/').to_owned();
                match id_of(&name) {
                    Some(id) => found.push(Named {
                        id: id.to_owned(),
                        is_ours: self.is_marked(hierarchy, &path),
                        path: format!("/{path}"),
                    }),
                    None if path.matches('/').count() < MAX_DEPTH => pending.push(path),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Puts the mark on a cgroup. Where the kernel cannot, it only is not known as ours later.
    pub(super) fn put_mark(&self, dir: BorrowedFd<'_>) {
        if !self.mark.is_empty()
            && let Err(error) =
                rustix::fs::fsetxattr(dir, MARK, self.mark.as_bytes(), XattrFlags::empty())
        {
            tracing::debug!(%error, "cgroup not marked");
        }
    }

    fn is_marked(&self, hierarchy: &Hierarchy, path: &str) -> bool {
        let mut mark = vec![0; MAX_MARK];
        let mut read = || -> Result<usize, Stop> {
            let Ok(Some(dir)) = hierarchy.enter(path) else {
                return Err(Errno::NOENT.into());
            };
            Ok(rustix::fs::fgetxattr(&dir, MARK, &mut mark[..])?)
        };
        let length = read().unwrap_or(0);
        length > 0 && mark[..length] == *self.mark.as_bytes()
    }
}

/// The id in a name of ours: `crio-<id>`, `crio-conmon-<id>`, under systemd with `.scope`.
pub fn id_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix('-')?;
    let rest = rest.strip_prefix("conmon-").unwrap_or(rest);
    let id = rest.strip_suffix(".scope").unwrap_or(rest);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (id.len() == ID && id.bytes().all(is_hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_id() {
        let id = "0123456789abcdef".repeat(4);
        for name in [
            "crio-ID",
            "crio-conmon-ID",
            "crio-ID.scope",
            "crio-conmon-ID.scope",
        ] {
            assert_eq!(id_of(&name.replace("ID", &id)), Some(id.as_str()), "{name}");
        }
        for name in [
            "ID",
            "crio-",
            "crio-ab",
            "libpod-ID",
            "crio-IDa",
            "cri-containerd-ID.scope",
        ] {
            assert_eq!(id_of(&name.replace("ID", &id)), None, "{name}");
        }
    }
}
