//! Free space: what there is, what stays free, and whether something fits.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::io::Errno;

use super::{StorageError, Store};

/// Inodes that must stay free, where the file system counts them.
const RESERVE_INODES: u64 = 1024;

/// The file system that layers and images are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The store's directory on it.
    pub path: PathBuf,
    /// Bytes that may be written to it.
    pub free: u64,
    /// Inodes that may be made on it.
    pub free_inodes: u64,
    /// Bytes of these that are kept free.
    pub reserve: u64,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has {} bytes and {} inodes free, of which {} bytes and {RESERVE_INODES} inodes are \
             kept free",
            self.path.display(),
            self.free,
            self.free_inodes,
            self.reserve
        )
    }
}

impl Space {
    /// Whether `bytes` more fit and the reserve stays.
    pub fn has(&self, bytes: u64) -> bool {
        self.free >= self.reserve.saturating_add(bytes) && self.free_inodes >= RESERVE_INODES
    }
}

impl Store {
    /// What is free for layers and images. One system call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn space(&self) -> Result<Space, StorageError> {
        let shared = &self.shared;
        let path = shared.places.layers.path();
        let (free, free_inodes) = free(shared.places.layers.as_fd())
            .map_err(StorageError::io(path, "look at its file system"))?;
        Ok(Space {
            path: path.to_path_buf(),
            free,
            free_inodes,
            reserve: shared.settings.limits.reserve_bytes,
        })
    }
}

/// Bytes and inodes that are free where `dir` is.
pub(super) fn free(dir: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstatvfs(dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // btrfs and others count no inodes.
    let free_inodes = if stat.f_files == 0 {
        u64::MAX
    } else {
        stat.f_favail
    };
    Ok((free, free_inodes))
}
