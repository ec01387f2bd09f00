//! The directory that a layer is unpacked into: every parent is looked up by the kernel with
//! `RESOLVE_IN_ROOT`, so a symbolic link that an earlier entry made leads, wherever it points, to a
//! place inside the layer, as it does in a container. What exists is found and replaced here.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::split::lost::Lost;
use super::super::trash::Trash;
use super::{Fault, sys};

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// openat2 gives EAGAIN when anything on the machine is renamed or mounted while `..` of a link is
/// walked inside the root; on a busy node that may happen some times in a row.
const MAX_RACES: usize = 1000;

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    trash: &'a Trash,
    /// The parent of the last entry: archives list a directory's files one after the other. It cannot
    /// go stale, because what is replaced is always something in this directory.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Directories made without an entry of their own.
    pub(super) implied: u64,
    /// Whether something was replaced, so that counting while unpacking is not exact.
    pub(super) replaced: bool,
    /// For what is replaced.
    pub(super) lost: Lost<'a>,
}

/// Whether it is what overlayfs takes for a whiteout: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Hides what the layers below have in this directory.
pub(super) fn make_opaque(dir: BorrowedFd<'_>) -> Result<(), Fault> {
    rustix::fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty())
        .map_err(sys("mark a directory opaque"))
}

/// Whether this directory hides what the layers below have in it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(count) => Ok(&value[..count] == b"y"),
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens an existing directory of the layer at `root`, through its links as they are in a container.
pub(super) fn open_directory(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_RACES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, trash: &'a Trash, lost: Lost<'a>) -> Tree<'a> {
        Tree {
            root,
            trash,
            last: None,
            implied: 0,
            replaced: false,
            lost,
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'a> {
        self.root
    }

    /// Opens an existing directory; the path's own last component may be a link too.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlags::empty())
    }

    /// As [`Tree::open`], but not if the last component is a link.
    pub(super) fn open_itself(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlags::NOFOLLOW)
    }

    fn open_with(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_directory(self.root, path, flags)
    }

    /// The directory at `path`, made with its parents (0755, root) where missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Fault> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open(path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_all(path)?,
            Err(error) => return Err(parent_fault(error)),
        };
        let fd = Rc::new(fd);
        self.last = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    fn make_all(&mut self, path: &[u8]) -> Result<OwnedFd, Fault> {
        let mut at = self.open(b"").map_err(sys("open the layer's directory"))?;
        let slashes = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| i);
        let mut start = 0;
        for end in slashes.chain([path.len()]) {
            let name = &path[start..end];
            at = match self.open(&path[..end]) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_one(at.as_fd(), name)?,
                Err(error) => return Err(parent_fault(error)),
            };
            start = end + 1;
        }
        Ok(at)
    }

    /// Makes a parent directory. A whiteout in its place means: what lies below is gone, and the new
    /// directory is opaque.
    fn make_one(&mut self, at: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Fault> {
        let opaque = match stat(at, name)? {
            None => false,
            Some(stat) if is_whiteout(&stat) => {
                self.clear(at, name)?;
                true
            }
            Some(_) => return Err(Fault::Refused("a parent of it is not a directory")),
        };
        rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)).map_err(sys("create parent"))?;
        let flags = super::super::dir::DIR_FLAGS;
        let fd = rustix::fs::openat(at, name, flags, Mode::empty()).map_err(sys("open parent"))?;
        // A set-group-id directory hands down group and bit; the umask takes bits away.
        rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(sys("own parent"))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(sys("chmod parent"))?;
        if opaque {
            make_opaque(fd.as_fd())?;
        }
        self.implied += 1;
        Ok(fd)
    }

    /// Removes what is in the way of a new entry, a directory with all below it. Where it has content,
    /// that is kept outside of the layer, for the tar has it.
    pub(super) fn clear(&mut self, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
        self.replaced = true;
        let found = stat(at, name)?;
        let has_content = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => stat.st_size > 0,
            kind => kind == FileType::Directory,
        };
        if found.as_ref().is_some_and(has_content) {
            let taken = self.lost.take(at, name).map_err(|source| Fault::Sys {
                step: "keep what is replaced",
                source,
            })?;
            if taken {
                return Ok(());
            }
        }
        match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                self.trash
                    .take_at(at, OsStr::from_bytes(name))
                    .map_err(|source| Fault::Sys {
                        step: "replace a directory",
                        source,
                    })
            }
            Err(error) => Err(sys("replace")(error)),
        }
    }
}

/// What is there under this name, not following a link.
pub(super) fn stat(at: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Fault> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(sys("look up")(error)),
    }
}

fn parent_fault(error: Errno) -> Fault {
    match error {
        Errno::LOOP => Fault::Refused("its path goes round in symbolic links"),
        error => sys("open its parent")(error),
    }
}
