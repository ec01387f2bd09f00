//! Deletion: a rename into the trash directory now, the work later and in the background.
//!
//! A tree may be as wide and as deep as a hostile container made it, deeper than any path can say.
//! So deletion goes by descriptor, and what lies deeper than [`MAX_HELD`] levels is first renamed up
//! into the trash directory itself: stack and open files stay bounded whatever the tree is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::StorageError;
use super::dir::{DIR_FLAGS, Dir};

/// Directory levels that are held open at once while deleting.
const MAX_HELD: usize = 64;

/// Names that are listed at once while deleting.
const BATCH: usize = 1024;

#[derive(Debug)]
pub(super) struct Trash {
    dir: Dir,
}

/// Makes names unique within the process; the process id makes them unique beyond it.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A name that nothing in the store has.
pub(super) fn unique_name(stem: &str) -> String {
    format!(
        "{stem}.{}.{}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed)
    )
}

impl Trash {
    pub(super) fn new(dir: Dir) -> Trash {
        Trash { dir }
    }

    /// Moves `from/name` into the trash; not there is fine.
    pub(super) fn take(&self, from: &Dir, name: &OsStr) -> Result<(), StorageError> {
        self.take_at(from.as_fd(), name).map_err(StorageError::io(
            from.path().join(name),
            "move to the trash",
        ))
    }

    /// As [`Trash::take`], for a directory that has no path here.
    pub(super) fn take_at(&self, from: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        loop {
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(from, name, &self.dir, unique_name("t"), flags) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // A leftover of an earlier process that had our pid.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes everything in the trash. Goes on after an error and returns the first.
    pub(super) fn empty(&self) -> Result<(), StorageError> {
        let mut first_error = None;
        // What is renamed up while deleting shows in the next round; an error ends the rounds.
        loop {
            let names = self.dir.names()?;
            if names.is_empty() || first_error.is_some() {
                return first_error.map_or(Ok(()), Err);
            }
            for name in names {
                if let Err(error) = self.erase(self.dir.as_fd(), &name, 0) {
                    let path = self.dir.path().join(&name);
                    first_error.get_or_insert(StorageError::io(path, "delete")(error));
                }
            }
        }
    }

    fn erase(&self, parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
        if unlink_unless_dir(parent, name)? {
            return Ok(());
        }
        if depth >= MAX_HELD {
            return self.take_at(parent, name);
        }
        let dir = rustix::fs::openat(parent, name, DIR_FLAGS, Mode::empty())?;
        // In rounds, because deleting while listing may skip names.
        loop {
            let batch = list_batch(dir.as_fd())?;
            if batch.is_empty() {
                break;
            }
            for child in batch {
                self.erase(dir.as_fd(), &child, depth + 1)?;
            }
        }
        drop(dir);
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the name is gone afterwards; `false`: it is a directory.
fn unlink_unless_dir(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn list_batch(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_os_string());
        }
        if names.len() >= BATCH {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trash_in(base: &Dir) -> Trash {
        Trash::new(base.ensure("trash", 0o700).unwrap())
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_deleted_with_few_open_files() {
        let scratch = tempfile::tempdir().unwrap();
        let base = Dir::open_or_create(scratch.path()).unwrap();
        let mut at = base.create("deep", 0o755).unwrap();
        for _ in 0..3000 {
            at.write("file", b"x").unwrap();
            at = at.create("a-directory", 0o000).unwrap();
        }
        let trash = trash_in(&base);
        trash.take(&base, OsStr::new("deep")).unwrap();
        assert!(!base.has("deep"));
        trash.empty().unwrap();
        assert!(trash.dir.names().unwrap().is_empty());
    }

    #[test]
    fn a_wide_directory_is_deleted_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let base = Dir::open_or_create(scratch.path()).unwrap();
        let outside = base.create("outside", 0o755).unwrap();
        outside.write("kept", b"x").unwrap();
        let wide = base.create("wide", 0o755).unwrap();
        for i in 0..BATCH + 10 {
            wide.write(&format!("f{i}"), b"").unwrap();
        }
        rustix::fs::symlinkat("../../outside", &wide, "link").unwrap();
        let trash = trash_in(&base);
        trash.take(&base, OsStr::new("wide")).unwrap();
        trash.take(&base, OsStr::new("not there")).unwrap();
        trash.empty().unwrap();
        assert!(trash.dir.names().unwrap().is_empty());
        assert!(outside.has("kept"));
    }
}
