//! A directory held by descriptor, with its path for messages. All of the store's own files are
//! reached through one, by names that are ours (ids, constants), never by names from an image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::StorageError;

/// How a directory is opened: never through a symbolic link, never inherited by a child process.
pub(super) const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a path of the configuration, making it with its parents (0755) when missing. Unlike all
    /// others this one may be a symbolic link: that is the administrator's choice.
    pub(super) fn open_or_create(path: &Path) -> Result<Dir, StorageError> {
        std::fs::create_dir_all(path).map_err(StorageError::io(path, "create directory"))?;
        let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(StorageError::io(path, "open directory"))?;
        Ok(Dir {
            fd,
            path: path.to_path_buf(),
        })
    }

    /// Opens a path of the configuration; `None`: it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Dir>, StorageError> {
        let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Dir {
                fd,
                path: path.to_path_buf(),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StorageError::io(path, "open directory")(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sub(&self, name: &str) -> Result<Dir, StorageError> {
        let path = self.path.join(name);
        let fd = rustix::fs::openat(&self.fd, name, DIR_FLAGS, Mode::empty())
            .map_err(StorageError::io(&path, "open directory"))?;
        Ok(Dir { fd, path })
    }

    /// Makes a directory that must not be there yet, and opens it.
    pub(super) fn create(&self, name: &str, mode: u32) -> Result<Dir, StorageError> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .map_err(StorageError::io(self.path.join(name), "create directory"))?;
        self.sub(name)
    }

    /// Makes the directory unless it is there, and opens it.
    pub(super) fn ensure(&self, name: &str, mode: u32) -> Result<Dir, StorageError> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.sub(name),
            Err(error) => Err(StorageError::io(self.path.join(name), "create directory")(
                error,
            )),
        }
    }

    /// The names in it, without `.` and `..`, sorted.
    pub(super) fn names(&self) -> Result<Vec<OsString>, StorageError> {
        let read = || -> Result<Vec<OsString>, Errno> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsStr::from_bytes(name).to_os_string());
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(StorageError::io(&self.path, "list directory"))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, StorageError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(StorageError::io(&path, "open"))?;
        let mut bytes = Vec::new();
        File::from(fd)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(StorageError::io(&path, "read"))?;
        if bytes.len() as u64 > limit {
            return Err(StorageError::Record {
                path,
                reason: format!("over {limit} bytes long"),
            });
        }
        Ok(bytes)
    }

    /// Writes a new or replaced file in place. For directories that nobody looks into yet.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<File, StorageError> {
        let path = self.path.join(name);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(StorageError::io(&path, "create file"))?;
        let mut file = File::from(fd);
        file.write_all(bytes)
            .map_err(StorageError::io(&path, "write"))?;
        Ok(file)
    }

    /// Replaces a file by writing `<name>.new` and renaming it: a reader and a crash see the old one
    /// or the new one.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let new = format!("{name}.new");
        self.write(&new, bytes)?;
        self.rename_new(&new, name)
    }

    /// As [`replace`](Self::replace), and so does a power cut: not every file system writes a file
    /// back before the rename that puts it in the place of another.
    pub(super) fn replace_durably(&self, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let new = format!("{name}.new");
        let file = self.write(&new, bytes)?;
        file.sync_all()
            .map_err(StorageError::io(self.path.join(&new), "fsync"))?;
        self.rename_new(&new, name)
    }

    fn rename_new(&self, new: &str, name: &str) -> Result<(), StorageError> {
        rustix::fs::renameat(&self.fd, new, &self.fd, name)
            .map_err(StorageError::io(self.path.join(name), "rename into place"))
    }

    /// Renames `name` to `to/new_name`, which must not be there.
    pub(super) fn move_to(&self, name: &OsStr, to: &Dir, new_name: &str) -> io::Result<()> {
        rustix::fs::renameat_with(&self.fd, name, &to.fd, new_name, RenameFlags::NOREPLACE)?;
        Ok(())
    }

    /// Removes a file; not there is fine.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), StorageError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(StorageError::io(self.path.join(name), "remove")(error)),
        }
    }

    /// Whether there is something of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}
