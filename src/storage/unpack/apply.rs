//! One entry onto the file system, by descriptors and single names only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::archive::{Archive, Entry, Kind, Sparse};
use super::name::{EntryPath, MAX_PATH_BYTES, Meaning, meaning};
use super::pax::Time;
use super::source::Source;
use super::tree::{self, Tree};
use super::{Fault, RootAttributes, sys};

/// Bytes of directory paths remembered for their times; the biggest honest layers have some MiB.
const MAX_TIMES_BYTES: usize = 128 << 20;

pub(super) struct Applier<'a> {
    pub(super) tree: Tree<'a>,
    /// Times of directories, set last because every entry made in one changes its time.
    times: Vec<(EntryPath, Time)>,
    times_bytes: usize,
    pub(super) root: Option<RootAttributes>,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    counting: Counting,
}

/// What entries occupy in the file system that is unpacked to, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting {
    /// Its block size.
    pub(super) block: u64,
    /// An empty directory: a block, or nothing where small ones are in their inode (XFS, Btrfs, tmpfs).
    pub(super) directory: u64,
}

impl<'a> Applier<'a> {
    pub(super) fn new(tree: Tree<'a>, counting: Counting) -> Applier<'a> {
        // The root directory itself.
        let (bytes, inodes) = (counting.directory, 1);
        Applier {
            tree,
            times: Vec::new(),
            times_bytes: 0,
            root: None,
            bytes,
            inodes,
            counting,
        }
    }

    pub(super) fn apply(
        &mut self,
        entry: &Entry,
        data: &mut Archive<Source<'_>>,
    ) -> Result<(), Fault> {
        match meaning(&entry.name).map_err(Fault::Refused)? {
            Meaning::Ignored => Ok(()),
            Meaning::Root => self.root_directory(entry),
            Meaning::Opaque(path) => {
                let dir = self.tree.directory(path.as_bytes())?;
                tree::make_opaque(dir.as_fd())
            }
            Meaning::Whiteout(path) => self.whiteout(&path),
            Meaning::Object(path) => self.object(entry, path, data),
        }
    }

    /// Sets the directories' times. To be called once, after the last entry.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        for (path, time) in &self.times {
            match self.tree.open_itself(path.as_bytes()) {
                Ok(dir) => rustix::fs::futimens(&dir, &timestamps(*time))
                    .map_err(sys("set a directory's time"))?,
                // Replaced by something else later on.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(sys("open a directory for its time")(error)),
            }
        }
        Ok(())
    }

    fn root_directory(&mut self, entry: &Entry) -> Result<(), Fault> {
        if entry.kind != Kind::Directory {
            return Err(Fault::Refused("the root can only be a directory"));
        }
        set_attributes(self.tree.root(), entry)?;
        self.root = Some(RootAttributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
        });
        self.remember_time(EntryPath::default(), entry.mtime)
    }

    /// A whiteout hides what layers below have; what this layer has itself stays (OCI image
    /// specification, "Whiteouts"), but a directory of it then hides the one below.
    fn whiteout(&mut self, path: &EntryPath) -> Result<(), Fault> {
        let (parent, name) = path.split();
        // Some builders write `.wh.foo` and `foo/.wh.bar`: the first says it all.
        if let Err(Errno::NOTDIR) = self.tree.open(parent) {
            return Ok(());
        }
        let at = self.tree.directory(parent)?;
        let mode = Mode::from_raw_mode(0);
        match rustix::fs::mknodat(&at, name, FileType::CharacterDevice, mode, 0) {
            Ok(()) => {
                self.inodes += 1;
                Ok(())
            }
            Err(Errno::EXIST) => match tree::stat(at.as_fd(), name)? {
                Some(stat) if tree::is_dir(&stat) => {
                    let flags = super::super::dir::DIR_FLAGS;
                    let dir =
                        rustix::fs::openat(&at, name, flags, Mode::empty()).map_err(sys("open"))?;
                    tree::make_opaque(dir.as_fd())
                }
                _ => Ok(()),
            },
            Err(error) => Err(sys("make a whiteout")(error)),
        }
    }

    fn object(
        &mut self,
        entry: &Entry,
        path: EntryPath,
        data: &mut Archive<Source<'_>>,
    ) -> Result<(), Fault> {
        if entry.kind == Kind::Directory {
            return self.directory(entry, path);
        }
        let (parent, name) = path.split();
        let parent = self.tree.directory(parent)?;
        let at = parent.as_fd();
        match entry.kind {
            Kind::File => self.file(entry, &parent, name, data)?,
            Kind::HardLink => return self.hard_link(entry, at, name),
            Kind::Symlink => self.symlink(entry, at, name)?,
            Kind::CharDevice if entry.device == (0, 0) => {
                return Err(Fault::Refused(
                    "character device 0:0 is reserved for whiteouts",
                ));
            }
            Kind::CharDevice => self.node(entry, at, name, FileType::CharacterDevice)?,
            Kind::BlockDevice => self.node(entry, at, name, FileType::BlockDevice)?,
            Kind::Fifo => self.node(entry, at, name, FileType::Fifo)?,
            Kind::Directory => {}
        }
        self.inodes += 1;
        Ok(())
    }

    /// Makes something at a name, clearing the name first if it is taken.
    fn make<T>(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        step: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Fault> {
        match make() {
            Err(Errno::EXIST) => {
                self.tree.clear(at, name)?;
                make().map_err(sys(step))
            }
            result => result.map_err(sys(step)),
        }
    }

    fn directory(&mut self, entry: &Entry, path: EntryPath) -> Result<(), Fault> {
        let (parent, name) = path.split();
        let at = self.tree.directory(parent)?;
        let make = || rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o700));
        let mut opaque = false;
        match make() {
            Ok(()) => self.count_directory(),
            Err(Errno::EXIST) => {
                let found = tree::stat(at.as_fd(), name)?;
                if !found.as_ref().is_some_and(tree::is_dir) {
                    opaque = found.as_ref().is_some_and(tree::is_whiteout);
                    self.tree.clear(at.as_fd(), name)?;
                    make().map_err(sys("create directory"))?;
                    self.count_directory();
                }
            }
            Err(error) => return Err(sys("create directory")(error)),
        }
        let flags = super::super::dir::DIR_FLAGS;
        let dir =
            rustix::fs::openat(&at, name, flags, Mode::empty()).map_err(sys("open directory"))?;
        set_attributes(dir.as_fd(), entry)?;
        if opaque {
            tree::make_opaque(dir.as_fd())?;
        }
        self.remember_time(path, entry.mtime)
    }

    fn count_directory(&mut self) {
        self.inodes += 1;
        self.bytes += self.counting.directory;
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &Rc<OwnedFd>,
        name: &[u8],
        data: &mut Archive<Source<'_>>,
    ) -> Result<(), Fault> {
        let at = parent.as_fd();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(at, name, "create file", || {
            rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600))
        })?;
        let sparse = entry.sparse.as_ref();
        if entry.size > 0 {
            let length = sparse.map_or(entry.size, |sparse| sparse.length);
            data.split().file(parent, name, length);
            self.tree.lost.files += 1;
        }
        match sparse {
            None => write_all(file.as_fd(), 0, entry.size, data)?,
            Some(sparse) => write_sparse(file.as_fd(), sparse, data)?,
        }
        set_attributes(file.as_fd(), entry)?;
        let block = self.counting.block;
        self.bytes += entry.size.div_ceil(block) * block;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(sys("set the time"))
    }

    fn symlink(&mut self, entry: &Entry, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
        let target = &*entry.link;
        if target.is_empty() || target.len() >= MAX_PATH_BYTES {
            return Err(Fault::Refused(
                "a symbolic link's target is empty or over 4095 bytes",
            ));
        }
        self.make(at, name, "create symbolic link", || {
            rustix::fs::symlinkat(target, at, name)
        })?;
        set_owner(entry, at, name)?;
        set_time(entry, at, name)
    }

    fn node(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
    ) -> Result<(), Fault> {
        let device = makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(0o600);
        self.make(at, name, "create device node", || {
            rustix::fs::mknodat(at, name, kind, mode, device)
        })?;
        set_owner(entry, at, name)?;
        // By name, and it follows links: the name is the node that was made just now, in a directory
        // that nobody else works in.
        rustix::fs::chmodat(at, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(sys("chmod"))?;
        set_time(entry, at, name)
    }

    /// Owner, mode and xattrs are the target's: setting them again from this header would at best
    /// change nothing and at worst lose a file capability.
    fn hard_link(&mut self, entry: &Entry, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
        const MISSING: Fault = Fault::Refused("a hard link to what is not in this layer");
        let target = EntryPath::parse(&entry.link).map_err(Fault::Refused)?;
        if target.is_root() {
            return Err(Fault::Refused("a hard link to the root"));
        }
        let (target_parent, target_name) = target.split();
        let from = match self.tree.open(target_parent) {
            Ok(from) => Rc::new(from),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(MISSING),
            Err(error) => return Err(sys("open the hard link's target")(error)),
        };
        let Some(target) = tree::stat(from.as_fd(), target_name)? else {
            return Err(MISSING);
        };
        if tree::is_dir(&target) {
            return Err(Fault::Refused("a hard link to a directory"));
        }
        if tree::is_whiteout(&target) {
            return Err(Fault::Refused("a hard link to a whiteout"));
        }
        if let Some(there) = tree::stat(at, name)?
            && (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        self.make(at, name, "create hard link", || {
            rustix::fs::linkat(&from, target_name, at, name, AtFlags::empty())
        })
    }

    fn remember_time(&mut self, path: EntryPath, time: Time) -> Result<(), Fault> {
        self.times_bytes += path.as_bytes().len() + size_of::<(EntryPath, Time)>();
        if self.times_bytes > MAX_TIMES_BYTES {
            let limit = MAX_TIMES_BYTES as u64;
            return Err(Fault::Limit {
                what: "bytes of directory names",
                limit,
            });
        }
        self.times.push((path, time));
        Ok(())
    }
}

/// Writes a piece of a file, at its current position, which is `offset`.
fn write_all(
    file: BorrowedFd<'_>,
    offset: u64,
    mut count: u64,
    data: &mut Archive<Source<'_>>,
) -> Result<(), Fault> {
    if count == 0 {
        return Ok(());
    }
    data.split().begin_piece(offset);
    while count > 0 {
        let bytes = data.data()?;
        let bytes = &bytes[..bytes
            .len()
            .min(usize::try_from(count).unwrap_or(usize::MAX))];
        let written =
            rustix::io::retry_on_intr(|| rustix::io::write(file, bytes)).map_err(sys("write"))?;
        data.consume(written);
        count -= written as u64;
    }
    data.split().end_piece();
    Ok(())
}

fn write_sparse(
    file: BorrowedFd<'_>,
    sparse: &Sparse,
    data: &mut Archive<Source<'_>>,
) -> Result<(), Fault> {
    rustix::fs::ftruncate(file, sparse.length).map_err(sys("set the length"))?;
    for (offset, count) in &sparse.segments {
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(*offset)).map_err(sys("seek"))?;
        write_all(file, *offset, *count, data)?;
    }
    Ok(())
}

/// Owner before mode, because chown clears set-user-id; mode before xattrs, because chown clears file
/// capabilities too.
fn set_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(sys("chown"))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(sys("chmod"))?;
    for (name, value) in &entry.xattrs {
        if keeps_xattr(name) {
            rustix::fs::fsetxattr(fd, &**name, value, XattrFlags::empty())
                .map_err(sys("set extended attribute"))?;
        }
    }
    Ok(())
}

/// File capabilities and what users may set themselves. Not `trusted.` (overlayfs's own), not security
/// labels (the host's policy gives them), not ACLs (containers/storage drops them as well).
pub(super) fn keeps_xattr(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn set_owner(entry: &Entry, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(sys("chown"))
}

fn set_time(entry: &Entry, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
    rustix::fs::utimensat(
        at,
        name,
        &timestamps(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(sys("set the time"))
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
