//! Files of the host get the label of a container.
//!
//! The walk is relative to directory descriptors and follows no symbolic link: whoever can write
//! to the volume could put one in its way and have the node's own files labelled. A file that has
//! the label already is not written to, so the second container of a volume costs only reading.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, XattrFlags};
use rustix::io::Errno;

use super::SelinuxError;

/// Where the kernel keeps a file's label; its text ends with a NUL there.
const NAME: &str = "security.selinux";
/// How deep directories are followed: each level holds a descriptor.
const MAX_DEPTH: usize = 256;
/// Directories that are the node's, not a volume's: labelled for one container they would be lost
/// to everything else (the list of CRI-O and podman).
const NODES_OWN: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// What a walk has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relabelled {
    /// Files and directories looked at.
    pub seen: u64,
    /// Those whose label was changed.
    pub changed: u64,
}

/// Whether a host path may be labelled for a container: no directory that is the node's own, and
/// no home directory.
///
/// # Errors
/// When it may not.
pub fn check(index: usize, path: &Path) -> Result<(), SelinuxError> {
    let home = path.parent() == Some(Path::new("/home"));
    let own = NODES_OWN.iter().any(|own| Path::new(own) == path);
    let clean = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match path.is_absolute() && clean && !own && !home {
        true => Ok(()),
        false => Err(SelinuxError::NotAllowed {
            index,
            path: path.to_owned(),
        }),
    }
}

/// Labels a file or directory of the daemon's making, and nothing below it.
///
/// # Errors
/// When the kernel refuses.
pub fn set(path: &Path, label: &str) -> Result<(), SelinuxError> {
    let fault = |errno: Errno| fault("set the SELinux label of", path)(errno.into());
    let file = rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let file = file.map_err(fault)?;
    label_one(file.as_fd(), label).map(drop).map_err(fault)
}

/// Labels a volume: the path, which must have no symbolic link in it, and everything below it. A
/// file system that has no labels is left alone. With `trusts_top`, a volume whose top has the label
/// already is left alone too; the top gets it last then, so that it says that all is done. Blocks for
/// as long as the volume is large; how many files it has looked at stands in `progress` meanwhile.
///
/// # Errors
/// At the first file that cannot be labelled; those before it are.
pub fn relabel(
    path: &Path,
    label: &str,
    trusts_top: bool,
    progress: &AtomicU64,
) -> Result<Relabelled, SelinuxError> {
    let mut walk = Walk {
        label,
        progress,
        done: Relabelled::default(),
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| fault("open the volume", path)(errno.into()))?;
    let top = root.as_fd();
    if trusts_top && has_label(top, label) {
        return Ok(walk.done);
    }
    if !trusts_top && !walk.label_top(top, path)? {
        return Ok(walk.done);
    }
    if kind(top) == FileType::Directory {
        walk.enter(top, path, 0)?;
    }
    if trusts_top {
        walk.label_top(top, path)?;
    }
    Ok(walk.done)
}

/// One labelling of a volume.
struct Walk<'a> {
    label: &'a str,
    /// Files looked at, for who watches.
    progress: &'a AtomicU64,
    done: Relabelled,
}

impl Walk<'_> {
    /// Labels the volume itself; `false`: its file system has no labels.
    fn label_top(&mut self, top: BorrowedFd<'_>, path: &Path) -> Result<bool, SelinuxError> {
        match label_one(top, self.label) {
            Err(Errno::OPNOTSUPP) => Ok(false),
            result => self
                .count(result)
                .map(|()| true)
                .map_err(|errno| fault("set the SELinux label of", path)(errno.into())),
        }
    }

    /// Labels what is below a directory.
    fn enter(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), SelinuxError> {
        if depth == MAX_DEPTH {
            let error = io::Error::other(format!("directories are nested deeper than {MAX_DEPTH}"));
            return Err(fault("walk the volume", path)(error));
        }
        let list = |errno: Errno| fault("list the directory", path)(errno.into());
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(directory, c".", open, Mode::empty()).map_err(list)?;
        let mut buffer = Vec::with_capacity(8192);
        let mut entries = RawDir::new(&readable, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(list)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Some(file) = open_entry(&readable, name, path)? else {
                continue;
            };
            let below = || path.join(name.to_string_lossy().as_ref());
            match label_one(file.as_fd(), self.label) {
                // another file system below, or a file of the kernel's
                Err(Errno::OPNOTSUPP) => continue,
                result => self.count(result),
            }
            .map_err(|errno| fault("set the SELinux label of", &below())(errno.into()))?;
            if kind(file.as_fd()) == FileType::Directory {
                self.enter(file.as_fd(), &below(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, result: Result<bool, Errno>) -> Result<(), Errno> {
        self.done.changed += u64::from(result?);
        self.done.seen += 1;
        self.progress.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// `None`: it went away meanwhile.
fn open_entry(
    directory: &OwnedFd,
    name: &CStr,
    path: &Path,
) -> Result<Option<OwnedFd>, SelinuxError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(fault("open a file in", path)(errno.into())),
    }
}

fn kind(file: BorrowedFd<'_>) -> FileType {
    let facts = rustix::fs::statat(file, c"", AtFlags::EMPTY_PATH);
    facts.map_or(FileType::Unknown, |facts| {
        FileType::from_raw_mode(facts.st_mode)
    })
}

/// Whether the label was another one. The descriptor names the file itself, also where it is a
/// symbolic link, so what stands at its path now does not matter. It is of the calling thread, which
/// may have a table of descriptors of its own.
fn label_one(file: BorrowedFd<'_>, label: &str) -> Result<bool, Errno> {
    if has_label(file, label) {
        return Ok(false);
    }
    let (path, value) = xattr(file, label);
    rustix::fs::setxattr(&*path, NAME, &value, XattrFlags::empty())?;
    Ok(true)
}

fn has_label(file: BorrowedFd<'_>, label: &str) -> bool {
    let (path, value) = xattr(file, label);
    let mut current = vec![0; value.len() + 1];
    rustix::fs::getxattr(&*path, NAME, &mut *current).is_ok_and(|length| current[..length] == value)
}

/// Where a file's label is set, and what to.
fn xattr(file: BorrowedFd<'_>, label: &str) -> (String, Vec<u8>) {
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    (path, [label.as_bytes(), b"\0"].concat())
}

fn fault(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SelinuxError {
    let path = path.to_owned();
    move |source| SelinuxError::Relabel { step, path, source }
}
