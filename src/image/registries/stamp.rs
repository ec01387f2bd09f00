//! Whether files have changed since they were read, without reading them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Sources, drop_ins};

/// What changes when one of the files is written, replaced, added or removed. Two that are equal
/// have the same content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamps {
    /// Asks the kernel about each file. To be taken before the files are read: what changes in
    /// between is then read once more. Blocks.
    pub(super) fn take(sources: &Sources) -> Stamps {
        let mut paths = vec![sources.file.clone(), sources.alias_cache.clone()];
        // what is wrong with the directory, the reading tells
        paths.extend(drop_ins(&sources.drop_ins).unwrap_or_default());
        let stamped = paths.into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        Stamps(stamped.collect())
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}
