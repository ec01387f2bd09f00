//! The file of a layer that is a file of an artifact, as the layer's record says it.

use rustix::fs::AtFlags;
use serde::{Deserialize, Serialize};

use super::StorageError;
use super::dir::Dir;

/// The file of a layer that is a file of an artifact. Two layers may have the same one, under one
/// path or two: their files are links to one inode then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobFile {
    /// Its digest.
    pub(super) blob: String,
    /// Where it is in the layer.
    pub(super) path: String,
    /// Its inode when it was made: the same one is the same bytes.
    pub(super) inode: u64,
    /// What it occupies on disk.
    pub(super) bytes: u64,
}

impl BlobFile {
    /// The file of `blob` that was just made in the directory `parent` as the last part of `path`.
    pub(super) fn of(blob: &str, path: &str, parent: &Dir) -> Result<BlobFile, StorageError> {
        let (_, name) = split(path);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(StorageError::io(parent.path().join(name), "look at"))?;
        Ok(BlobFile {
            blob: blob.to_owned(),
            path: path.to_owned(),
            inode: stat.st_ino,
            // st_blocks is in units of 512 bytes whatever the file system.
            bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        })
    }

    /// The same for files that share their bytes.
    pub(super) fn key(&self) -> (&str, u64) {
        (&self.blob, self.inode)
    }
}

/// Directory and name of a path.
pub(super) fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('/') {
        Some((above, name)) => (Some(above), name),
        None => (None, path),
    }
}
