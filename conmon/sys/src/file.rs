//! Files by path: opening, looking at them, renaming, removing. Paths are relative to the working
//! directory.

use core::ffi::CStr;

use crate::arch::number;
use crate::errno::{call, call_again};
use crate::{Errno, Fd};

pub(crate) const NONBLOCK: usize = 0o4000;
pub(crate) const CLOEXEC: usize = 0o200_0000;

const CREATE: usize = 0o100;
const EXCLUSIVE: usize = 0o200;
const NO_TERMINAL: usize = 0o400;
const TRUNCATE: usize = 0o1000;
const APPEND: usize = 0o2000;

/// AT_FDCWD, as the register holds it.
const WORKING_DIRECTORY: usize = (-100_isize).cast_unsigned();
const AT_SYMLINK_NOFOLLOW: usize = 0x100;
const AT_EMPTY_PATH: usize = 0x1000;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Writing to what exists.
    Write,
    /// Writing at its end, created where it is absent.
    Append {
        /// The permission bits of a new file, before the umask.
        mode: u16,
        /// Whether an existing file is an error.
        exclusive: bool,
    },
    /// Writing from its start, emptied or created.
    Replace {
        /// The permission bits of a new file, before the umask.
        mode: u16,
    },
}

/// Opens a file, closed on exec. Never waits for the other end of a named pipe.
///
/// # Errors
/// As openat(2).
pub fn open(path: &CStr, access: Access) -> Result<Fd, Errno> {
    let (flags, mode) = match access {
        Access::Read => (0, 0),
        Access::Write => (1, 0),
        Access::ReadWrite => (2, 0),
        Access::Append {
            mode,
            exclusive: false,
        } => (1 | CREATE | APPEND, mode),
        Access::Append {
            mode,
            exclusive: true,
        } => (1 | CREATE | APPEND | EXCLUSIVE, mode),
        Access::Replace { mode } => (1 | CREATE | TRUNCATE, mode),
    };
    let flags = flags | CLOEXEC | NO_TERMINAL | NONBLOCK;
    let args = [
        WORKING_DIRECTORY,
        path.as_ptr().expose_provenance(),
        flags,
        usize::from(mode),
    ];
    // SAFETY: the path is a C string.
    unsafe { call_again(number::OPENAT, args) }.map(Fd::from_result)
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A symbolic link, which only [`metadata`] without following sees.
    SymbolicLink,
    /// Anything else.
    Other,
}

/// What is asked of a file here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
}

/// struct statx of include/uapi/linux/stat.h: the same on every architecture, unlike struct stat.
#[repr(C)]
struct Statx {
    before_mode: [u32; 7],
    mode: u16,
    padding: u16,
    inode: u64,
    size: u64,
    rest: [u64; 26],
}

const STATX_TYPE_AND_SIZE: usize = 0x1 | 0x200;

fn statx(directory: usize, path: &CStr, flags: usize) -> Result<Metadata, Errno> {
    let mut result = Statx {
        before_mode: [0; 7],
        mode: 0,
        padding: 0,
        inode: 0,
        size: 0,
        rest: [0; 26],
    };
    let target = (&raw mut result).expose_provenance();
    let args = [
        directory,
        path.as_ptr().expose_provenance(),
        flags,
        STATX_TYPE_AND_SIZE,
        target,
    ];
    // SAFETY: the path is a C string, and the kernel writes one struct statx of 256 bytes.
    unsafe { call(number::STATX, args) }?;
    let kind = match result.mode & 0o170_000 {
        0o100_000 => Kind::Regular,
        0o120_000 => Kind::SymbolicLink,
        _ => Kind::Other,
    };
    Ok(Metadata {
        kind,
        size: result.size,
    })
}

/// Looks at the file at a path, or with `follow` at what a symbolic link there leads to.
///
/// # Errors
/// As statx(2).
pub fn metadata(path: &CStr, follow: bool) -> Result<Metadata, Errno> {
    statx(
        WORKING_DIRECTORY,
        path,
        if follow { 0 } else { AT_SYMLINK_NOFOLLOW },
    )
}

/// Looks at an open file.
///
/// # Errors
/// As statx(2).
pub fn metadata_of(fd: &Fd) -> Result<Metadata, Errno> {
    statx(fd.arg(), c"", AT_EMPTY_PATH)
}

/// Cuts or extends a file to a size in bytes.
///
/// # Errors
/// As ftruncate(2).
pub fn truncate(fd: &Fd, size: u64) -> Result<(), Errno> {
    let size = usize::try_from(size).map_err(|_| Errno::EFBIG)?;
    // SAFETY: ftruncate takes no pointer.
    unsafe { call_again(number::FTRUNCATE, [fd.arg(), size]) }.map(drop)
}

/// Sets a file's permission bits, whatever the umask.
///
/// # Errors
/// As fchmod(2).
pub fn chmod_file(fd: &Fd, mode: u16) -> Result<(), Errno> {
    // SAFETY: fchmod takes no pointer.
    unsafe { call(number::FCHMOD, [fd.arg(), usize::from(mode)]) }.map(drop)
}

/// Removes a file.
///
/// # Errors
/// As unlinkat(2).
pub fn unlink(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a C string.
    unsafe {
        call(
            number::UNLINKAT,
            [WORKING_DIRECTORY, path.as_ptr().expose_provenance(), 0],
        )
    }
    .map(drop)
}

/// Gives a file another name, replacing what has it.
///
/// # Errors
/// As renameat(2).
pub fn rename(from: &CStr, to: &CStr) -> Result<(), Errno> {
    let args = [
        WORKING_DIRECTORY,
        from.as_ptr().expose_provenance(),
        WORKING_DIRECTORY,
        to.as_ptr().expose_provenance(),
    ];
    // SAFETY: both paths are C strings.
    unsafe { call(number::RENAMEAT, args) }.map(drop)
}

/// Sets the permission bits that new files do not get; returns the ones before.
pub fn set_umask(mask: u16) -> u16 {
    // SAFETY: umask takes no pointer; it cannot fail.
    let before = unsafe { call(number::UMASK, [usize::from(mask)]) };
    before
        .ok()
        .and_then(|mask| u16::try_from(mask).ok())
        .unwrap_or(0o022)
}
