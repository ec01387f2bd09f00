//! Whether a file has changed since it was read, without reading it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What changes when a file is written or replaced. Two that are equal are of the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file at this path, links followed. To be taken before the file is read: what changes
    /// in between is then seen the next time. Blocks.
    ///
    /// # Errors
    /// The kernel's, when there is none.
    pub fn of(path: &Path) -> io::Result<Stamp> {
        let facts = fs::metadata(path)?;
        Ok(Stamp {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}
