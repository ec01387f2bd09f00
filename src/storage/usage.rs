//! How much a directory tree occupies, as `du` counts: blocks, a hard-linked file once.
//!
//! The tree may be a running container's and hostile: it changes meanwhile, and may be deeper than a
//! path or a process's open files reach. So one directory is open at a time; the way back up is `..`,
//! checked to be where the walk came from. A walk that loses its way ends with what it has.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dir::DIR_FLAGS;

/// Inodes looked at in one walk; what lies beyond is not counted.
const MAX_WALK: u64 = 20_000_000;

/// Names of directories still to be visited, all levels together (at 255 bytes: 256 MiB at worst).
const MAX_PENDING: usize = 1_000_000;

/// Bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// One level of the walk.
struct Level {
    device: u64,
    inode: u64,
    pending: Vec<CString>,
}

struct Walk {
    tally: Tally,
    linked: HashSet<(u64, u64)>,
    pending: usize,
}

/// Counts the directory and all below it.
pub(super) fn measure(dir: BorrowedFd<'_>) -> Result<Tally, Errno> {
    let mut walk = Walk {
        tally: Tally::default(),
        linked: HashSet::new(),
        pending: 0,
    };
    let mut at: OwnedFd = rustix::fs::openat(dir, ".", DIR_FLAGS, Mode::empty())?;
    let mut levels = vec![walk.enter(at.as_fd())?];
    while let Some(level) = levels.last_mut() {
        if walk.tally.inodes > MAX_WALK {
            break;
        }
        if let Some(name) = level.pending.pop() {
            walk.pending -= 1;
            let flags = DIR_FLAGS | OFlags::NOATIME;
            // Removed or replaced since it was listed: nothing to count.
            let Ok(below) = rustix::fs::openat(&at, &*name, flags, Mode::empty()) else {
                continue;
            };
            let Ok(entered) = walk.enter(below.as_fd()) else {
                continue;
            };
            if entered.device != level.device {
                continue;
            }
            at = below;
            levels.push(entered);
            continue;
        }
        levels.pop();
        if let Some(above) = levels.last() {
            at = rustix::fs::openat(&at, "..", DIR_FLAGS, Mode::empty())?;
            let stat = rustix::fs::fstat(&at)?;
            if (stat.st_dev, stat.st_ino) != (above.device, above.inode) {
                break;
            }
        }
    }
    Ok(walk.tally)
}

impl Walk {
    /// Counts a directory and what is in it, except for its subdirectories, which become pending.
    fn enter(&mut self, dir: BorrowedFd<'_>) -> Result<Level, Errno> {
        let stat = rustix::fs::fstat(dir)?;
        self.add(stat.st_blocks);
        let mut pending = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                if self.pending < MAX_PENDING {
                    self.pending += 1;
                    pending.push(name.to_owned());
                }
                continue;
            }
            let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
                self.add(stat.st_blocks);
            }
        }
        Ok(Level {
            device: stat.st_dev,
            inode: stat.st_ino,
            pending,
        })
    }

    fn add(&mut self, blocks: i64) {
        // st_blocks is in units of 512 bytes whatever the file system.
        self.tally.bytes += u64::try_from(blocks).unwrap_or(0) * 512;
        self.tally.inodes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::dir::Dir;
    use super::*;

    #[test]
    fn counts_as_du_does() {
        let scratch = tempfile::tempdir().unwrap();
        let base = Dir::open_or_create(scratch.path()).unwrap();
        base.write("a", &[1; 10_000]).unwrap();
        rustix::fs::linkat(&base, "a", &base, "b", AtFlags::empty()).unwrap();
        base.create("d", 0o755).unwrap().write("c", b"x").unwrap();
        rustix::fs::symlinkat("/etc", &base, "link").unwrap();
        let mut du = std::process::Command::new("du");
        let du = du.args(["-s", "-B1"]).arg(scratch.path()).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
        let tally = measure(base.as_fd()).unwrap();
        assert_eq!(
            tally,
            Tally {
                bytes: du,
                inodes: 5
            }
        );
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let base = Dir::open_or_create(scratch.path()).unwrap();
        let mut at = base.create("deep", 0o755).unwrap();
        for _ in 0..2500 {
            at = at.create("a-directory", 0o755).unwrap();
        }
        assert_eq!(measure(base.as_fd()).unwrap().inodes, 2502);
        let trash = super::super::trash::Trash::new(base.create("trash", 0o700).unwrap());
        trash.take(&base, std::ffi::OsStr::new("deep")).unwrap();
        trash.empty().unwrap();
    }
}
