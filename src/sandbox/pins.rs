//! Whose pinned namespaces are: a second daemon may pin its own in the same directories.
//!
//! The file below each pin holds the run root of the daemon that made it. The mount hides it, so it is
//! read through a copy of the directory's mount without what is mounted in it.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::SandboxError;
use crate::state::{Id, ids_in};

/// The kinds of namespace that a pod's containers may share without a process.
pub(super) const KINDS: [(&str, &str, CloneFlags); 4] = [
    ("netns", "net", CloneFlags::CLONE_NEWNET),
    ("ipcns", "ipc", CloneFlags::CLONE_NEWIPC),
    ("utsns", "uts", CloneFlags::CLONE_NEWUTS),
    ("userns", "user", CloneFlags::CLONE_NEWUSER),
];

/// The longest run root that is read.
const MAX_OWNER: u64 = 4096;

/// Makes the file that a namespace is pinned on.
pub(super) fn sign(target: &Path, owner: &Path) -> io::Result<()> {
    fs::write(target, owner.as_os_str().as_bytes())
}

/// Ids of the sandboxes whose namespaces the daemons of this run root have pinned below `directory`.
///
/// # Errors
/// When a directory cannot be listed, or the kernel does not show what is below the pins.
pub fn pinned(directory: &Path, owner: &Path) -> Result<Vec<Id>, SandboxError> {
    let mut ids = Vec::new();
    for (parent, ..) in KINDS {
        let parent = directory.join(parent);
        let found = ids_in(&parent).map_err(SandboxError::io("list", &parent))?;
        if found.is_empty() {
            continue;
        }
        let below = below_mounts(&parent).map_err(SandboxError::io("look below", &parent))?;
        for (id, path) in found {
            match owner_of(&below, &id) {
                Ok(text) if text == owner.as_os_str().as_bytes() => ids.push(id),
                // Killed between making the file and writing into it: nothing is pinned on it yet.
                Ok(text) if text.is_empty() && !is_namespace(&path) => ids.push(id),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(SandboxError::io("look below", &path)(error)),
            }
        }
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn below_mounts(directory: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, directory, flags)?)
}

fn owner_of(below: &std::os::fd::OwnedFd, id: &Id) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(below, id.as_str(), flags, Mode::empty())?;
    let mut text = Vec::new();
    fs::File::from(file)
        .take(MAX_OWNER)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}
