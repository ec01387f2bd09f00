//! A layer's directory against the tar that it was unpacked from: what each entry says of kind, owner,
//! mode, link, device, extended attributes and whiteouts. Contents are left to the digest of the tar
//! that is made of them, times to nobody: a file system rounds and clamps them.
//!
//! That is only right for a layer whose entries replaced none of each other, as they come from all
//! builders: the unpacker knows, and only such ones are to be compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, Stat, makedev};
use rustix::io::Errno;

use super::apply::keeps_xattr;
use super::archive::{Archive, Entry, Kind};
use super::name::{EntryPath, Meaning, meaning};
use super::source::Stream;
use super::{Fault, sys, tree};
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Differences that are remembered of each kind: one is enough to condemn a layer.
const MAX_DIFFERENCES: usize = 4096;
/// Permissions, set-id bits and the sticky bit.
const MODE_BITS: u32 = 0o7777;
const GONE: &str = "it is gone";

/// Something of a layer that is not as it was unpacked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::storage) struct Difference {
    /// Below the layer's root.
    pub(in crate::storage) path: PathBuf,
    pub(in crate::storage) reason: String,
}

/// Compares a layer's directory with its tar, as far as `tar` can be read as one; an error of `tar` is
/// its owner's to know. Returns the differences that there are, by path.
///
/// # Errors
/// When the layer cannot be looked at.
pub(in crate::storage) fn compare(
    diff_id: &str,
    diff: &Dir,
    tar: &mut dyn Read,
) -> Result<Vec<Difference>, StorageError> {
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER_BYTES, tar));
    let mut comparer = Comparer {
        root: diff.as_fd(),
        last: (Vec::new(), None),
        directories: BTreeMap::new(),
        others: Vec::new(),
    };
    loop {
        let entry = match archive.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) => return Ok(Vec::new()),
        };
        match comparer.entry(&entry) {
            Ok(()) => {}
            Err(Fault::Sys { step, source }) => {
                let mut shown = String::new();
                super::show(&entry.name, &mut shown);
                return Err(StorageError::Entry {
                    diff_id: diff_id.to_owned(),
                    entry: shown,
                    step,
                    source,
                });
            }
            // What this version of the unpacker refuses, the one that unpacked it did not.
            Err(_) => return Ok(Vec::new()),
        }
    }
    let mut differences = comparer.others;
    differences.extend(comparer.directories.into_values());
    differences.sort();
    Ok(differences)
}

/// A tar from a reader, with nothing kept of it.
impl<R: Read> Stream for BufReader<R> {
    fn peek(&mut self) -> Result<&[u8], Fault> {
        self.fill_buf().map_err(Fault::Read)
    }

    fn consume(&mut self, count: usize) {
        BufRead::consume(self, count);
    }

    fn consume_content(&mut self, count: usize) {
        BufRead::consume(self, count);
    }
}

struct Comparer<'a> {
    root: BorrowedFd<'a>,
    /// The parent of the last entry, by its path; `None`: there is no such directory.
    last: (Vec<u8>, Option<Rc<OwnedFd>>),
    /// By inode: a later entry for a directory has the last word.
    directories: BTreeMap<u64, Difference>,
    others: Vec<Difference>,
}

impl Comparer<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        match meaning(&entry.name).map_err(Fault::Refused)? {
            Meaning::Ignored => Ok(()),
            Meaning::Root => {
                let stat = rustix::fs::fstat(self.root).map_err(sys("look at the root"))?;
                self.directory(entry, &EntryPath::default(), &stat, self.root)
            }
            Meaning::Opaque(path) => {
                let reason = match self.open(path.as_bytes())? {
                    Some(dir) => missing_opaque(dir.as_fd())?,
                    None => Some(GONE.to_owned()),
                };
                self.note(&path, reason);
                Ok(())
            }
            Meaning::Whiteout(path) => self.whiteout(&path),
            Meaning::Object(path) => self.object(entry, &path),
        }
    }

    /// A whiteout is not there where the layer has an object of its own at the name, but a directory
    /// then hides the one below. Below another whiteout there is none.
    fn whiteout(&mut self, path: &EntryPath) -> Result<(), Fault> {
        let (parent, name) = path.split();
        let Some(at) = self.open(parent)? else {
            return Ok(());
        };
        let reason = match tree::stat(at.as_fd(), name)? {
            None => Some("the mark that it does not exist is gone".to_owned()),
            Some(stat) if tree::is_dir(&stat) => {
                missing_opaque(open_directory(at.as_fd(), name)?.as_fd())?
            }
            Some(_) => None,
        };
        self.note(path, reason);
        Ok(())
    }

    fn object(&mut self, entry: &Entry, path: &EntryPath) -> Result<(), Fault> {
        let (parent, name) = path.split();
        let at = self.open(parent)?;
        let found = match &at {
            Some(at) => tree::stat(at.as_fd(), name)?.zip(Some(at)),
            None => None,
        };
        let Some((stat, at)) = found else {
            self.note(path, Some(GONE.to_owned()));
            return Ok(());
        };
        if entry.kind == Kind::Directory && tree::is_dir(&stat) {
            let dir = open_directory(at.as_fd(), name)?;
            return self.directory(entry, path, &stat, dir.as_fd());
        }
        let reason = match entry.kind {
            Kind::HardLink => self.hard_link(entry, &stat)?,
            _ => match attributes(entry, &stat) {
                None => content(entry, &stat, at.as_fd(), name)?,
                different => different,
            },
        };
        self.note(path, reason);
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        path: &EntryPath,
        stat: &Stat,
        dir: BorrowedFd<'_>,
    ) -> Result<(), Fault> {
        let reason = match attributes(entry, stat) {
            None => extended(entry, dir)?,
            different => different,
        };
        match reason {
            None => drop(self.directories.remove(&stat.st_ino)),
            Some(reason) if self.directories.len() < MAX_DIFFERENCES => {
                self.directories
                    .insert(stat.st_ino, difference(path, reason));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, stat: &Stat) -> Result<Option<String>, Fault> {
        let target = EntryPath::parse(&entry.link).map_err(Fault::Refused)?;
        let (parent, name) = target.split();
        let found = match self.open(parent)? {
            Some(at) => tree::stat(at.as_fd(), name)?,
            None => None,
        };
        let is_same =
            found.is_some_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino));
        let told = || format!("it is no longer the same file as {}", shown(&entry.link));
        Ok((!is_same).then(told))
    }

    /// Opens a directory of the layer, as the unpacker finds it.
    fn open(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, Fault> {
        if self.last.0 != path || self.last.1.is_none() {
            let found = match tree::open_directory(self.root, path, OFlags::empty()) {
                Ok(dir) => Some(Rc::new(dir)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(error) => return Err(sys("open a directory")(error)),
            };
            self.last = (path.to_vec(), found);
        }
        Ok(self.last.1.clone())
    }

    fn note(&mut self, path: &EntryPath, reason: Option<String>) {
        if let Some(reason) = reason
            && self.others.len() < MAX_DIFFERENCES
        {
            self.others.push(difference(path, reason));
        }
    }
}

fn difference(path: &EntryPath, reason: String) -> Difference {
    let path = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
    Difference { path, reason }
}

fn open_directory(at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Fault> {
    let flags = crate::storage::dir::DIR_FLAGS;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(sys("open the directory"))
}

fn missing_opaque(dir: BorrowedFd<'_>) -> Result<Option<String>, Fault> {
    let is_opaque = tree::is_opaque(dir).map_err(sys("read an extended attribute"))?;
    Ok((!is_opaque).then(|| "it no longer hides what the layers below have".to_owned()))
}

/// Kind, owner and mode.
fn attributes(entry: &Entry, stat: &Stat) -> Option<String> {
    let expected = match entry.kind {
        Kind::File | Kind::HardLink => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Directory => FileType::Directory,
        Kind::Fifo => FileType::Fifo,
    };
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != expected {
        return Some(format!("it is a {found:?}, not a {expected:?}"));
    }
    let (owner, expected) = ((stat.st_uid, stat.st_gid), (entry.uid, entry.gid));
    if owner != expected {
        let ((uid, gid), (owner, group)) = (owner, expected);
        return Some(format!("its owner is {uid}:{gid}, not {owner}:{group}"));
    }
    let (mode, expected) = (stat.st_mode & MODE_BITS, entry.mode);
    (entry.kind != Kind::Symlink && mode != expected)
        .then(|| format!("its mode is {mode:04o}, not {expected:04o}"))
}

/// What a kind has beyond owner and mode.
fn content(
    entry: &Entry,
    stat: &Stat,
    at: BorrowedFd<'_>,
    name: &[u8],
) -> Result<Option<String>, Fault> {
    match entry.kind {
        Kind::Symlink => {
            let target = rustix::fs::readlinkat(at, name, Vec::new())
                .map_err(sys("read a symbolic link"))?;
            let told = || {
                format!(
                    "it leads to {}, not to {}",
                    shown(target.as_bytes()),
                    shown(&entry.link)
                )
            };
            Ok((target.as_bytes() != entry.link).then(told))
        }
        Kind::CharDevice | Kind::BlockDevice => {
            let expected = makedev(entry.device.0, entry.device.1);
            let told = || format!("it is device {:#x}, not {expected:#x}", stat.st_rdev);
            Ok((stat.st_rdev != expected).then(told))
        }
        Kind::File => {
            let sparse = entry.sparse.as_ref();
            let expected = sparse.map_or(entry.size, |sparse| sparse.length);
            let length = u64::try_from(stat.st_size).unwrap_or(0);
            if length != expected {
                return Ok(Some(format!("it is {length} bytes long, not {expected}")));
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(at, name, flags, Mode::empty())
                .map_err(sys("open for its attributes"))?;
            extended(entry, file.as_fd())
        }
        Kind::Fifo | Kind::Directory | Kind::HardLink => Ok(None),
    }
}

/// The extended attributes that the unpacker keeps.
fn extended(entry: &Entry, file: BorrowedFd<'_>) -> Result<Option<String>, Fault> {
    // Of two of one name the second was set last.
    let kept: BTreeMap<&[u8], &[u8]> = entry
        .xattrs
        .iter()
        .filter(|(name, _)| keeps_xattr(name))
        .map(|(name, value)| (&**name, &**value))
        .collect();
    for (name, value) in kept {
        // A longer one than it should be does not fit.
        let mut found = vec![0; value.len() + 1];
        let is_same = match rustix::fs::fgetxattr(file, name, &mut found[..]) {
            Ok(count) => &found[..count] == value,
            Err(Errno::NODATA | Errno::RANGE) => false,
            Err(error) => return Err(sys("read an extended attribute")(error)),
        };
        if !is_same {
            let told = format!("its extended attribute {} is another or gone", shown(name));
            return Ok(Some(told));
        }
    }
    Ok(None)
}

fn shown(name: &[u8]) -> String {
    let mut shown = String::new();
    super::show(name, &mut shown);
    shown
}
