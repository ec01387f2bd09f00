//! Contents that later entries of the same tar replace.
//!
//! A tar may hold a file twice; the layer has the last one only, the tar wants the first again. What
//! an entry replaces is therefore moved out of the layer and remembered with the number of files that
//! had come by then: the content of an earlier file is where it was moved, of a later one in place.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use super::writer::{below, root_path};
use super::{number, put_bytes, put_number};
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// The directory beside `diff`.
const LOST_DIR: &str = "lost";

const INDEX: &str = "index";

/// Bytes of the index. Honest layers replace a handful of files.
const MAX_INDEX_BYTES: usize = 8 << 20;

/// Where replaced contents of a layer in the making go.
pub(in crate::storage) struct Lost<'a> {
    beside: &'a Dir,
    root: Vec<u8>,
    /// Made with the first thing in it.
    dir: Option<Dir>,
    index: Vec<u8>,
    moved: u64,
    /// How many files have begun, the number of the next one.
    pub(in crate::storage) files: u64,
    /// Whether something could not be kept.
    pub(in crate::storage) overflowed: bool,
}

impl<'a> Lost<'a> {
    /// For the layer that is unpacked into `diff`, in the directory `beside`.
    pub(in crate::storage) fn new(beside: &'a Dir, diff: &Dir) -> Result<Lost<'a>, StorageError> {
        let root = root_path(diff).map_err(StorageError::io(diff.path(), "find its real path"))?;
        Ok(Lost {
            beside,
            root,
            dir: None,
            index: Vec::new(),
            moved: 0,
            files: 0,
            overflowed: false,
        })
    }

    /// Moves `at/name` out of the layer. `false`: too much has been moved, the caller shall drop it.
    pub(in crate::storage) fn take(&mut self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
        let path = below(&self.root, at).filter(|_| self.index.len() < MAX_INDEX_BYTES);
        let Some(mut path) = path else {
            self.overflowed = true;
            return Ok(false);
        };
        let dir = match self.dir.take() {
            Some(dir) => dir,
            None => self
                .beside
                .create(LOST_DIR, 0o700)
                .map_err(io::Error::other)?,
        };
        let target = self.moved.to_string();
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let renamed = rustix::fs::renameat_with(at, OsStr::from_bytes(name), &dir, &*target, flags);
        self.dir = Some(dir);
        renamed?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        put_number(&mut self.index, self.files);
        put_bytes(&mut self.index, &path);
        self.moved += 1;
        Ok(true)
    }

    /// Writes the index. The directory, if there is one.
    pub(in crate::storage) fn finish(self) -> Result<Option<Dir>, StorageError> {
        if let Some(dir) = &self.dir {
            dir.write(INDEX, &self.index)?;
        }
        Ok(self.dir)
    }
}

/// Where the contents of a finished layer are that are not in place.
pub(super) struct Moved {
    pub(super) dir: Dir,
    /// By path: the number of files that had come when it was moved, and the name in `dir`.
    by_path: Moves,
}

impl Moved {
    /// Reads the index; `None`: nothing was moved.
    pub(super) fn open(beside: &Dir) -> Result<Option<Moved>, StorageError> {
        if !beside.has(LOST_DIR) {
            return Ok(None);
        }
        let dir = beside.sub(LOST_DIR)?;
        let bytes = dir.read(INDEX, MAX_INDEX_BYTES as u64 * 2)?;
        let Some(by_path) = parse(&bytes) else {
            return Err(StorageError::Record {
                path: dir.path().join(INDEX),
                reason: "not an index of replaced files".into(),
            });
        };
        Ok(Some(Moved { dir, by_path }))
    }

    /// The path below `lost/` of the content that came as file number `file` and lay at `path`;
    /// `None`: it is still there.
    pub(super) fn find(&self, path: &[u8], file: u64) -> Option<Vec<u8>> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        let ends = ends.map(|(i, _)| i).chain([path.len()]);
        let moves = ends.filter_map(|end| {
            let moves = self.by_path.get(&path[..end])?;
            let (when, name) = moves.iter().find(|(when, _)| *when > file)?;
            Some((*when, *name, end))
        });
        // Of two moves with the same number of files the earlier has the lower name.
        let (_, name, end) = moves.min_by_key(|(when, name, _)| (*when, *name))?;
        let mut found = name.to_string().into_bytes();
        found.extend_from_slice(&path[end..]);
        Some(found)
    }
}

/// By path: after how many files it was moved away, and under which name it is kept.
type Moves = HashMap<Vec<u8>, Vec<(u64, u64)>>;

fn parse(bytes: &[u8]) -> Option<Moves> {
    let mut by_path = Moves::new();
    let mut rest = bytes.iter();
    let mut name = 0;
    while !rest.as_slice().is_empty() {
        let mut next = || number(|| rest.next().copied().ok_or(())).ok().flatten();
        let (when, length) = (next()?, next()?);
        let path = rest.as_slice().get(..usize::try_from(length).ok()?)?;
        rest = rest.as_slice()[path.len()..].iter();
        by_path.entry(path.to_vec()).or_default().push((when, name));
        name += 1;
    }
    Some(by_path)
}
