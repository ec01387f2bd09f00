//! One overlay mount: the layers as lower directories, the container's own as the upper, or none for
//! a read-only view of an image.
//!
//! The mount API takes one lower directory at a time (`lowerdir+`, Linux 6.7), so neither the number of
//! layers nor the length of paths meets the one page that mount(2) has for options. Where the kernel
//! lacks it, mount(2) gets short paths through `/proc/self/fd`.
//!
//! Options: `volatile` because what a container writes does not outlive a power cut anyway (pods are
//! made anew after one), and without it every fsync in a container, and the unmount, wait for the disk.
//! `index`, `metacopy` and `redirect_dir` are off as in containers/storage: no file handles of layers
//! that may move, and nothing in an upper directory that only this kernel's overlayfs understands.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};

use super::RootOptions;

/// fsconfig takes strings of at most 255 bytes.
const MAX_VALUE: usize = 255;

/// What is mounted where.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    /// Topmost first.
    pub(super) lowers: Vec<PathBuf>,
    /// `None`: the mount is read-only.
    pub(super) upper: Option<Upper>,
    pub(super) target: BorrowedFd<'a>,
    pub(super) options: &'a RootOptions,
}

/// Where changes go.
#[derive(Debug)]
pub(super) struct Upper {
    pub(super) diff: PathBuf,
    pub(super) work: PathBuf,
}

const FLAGS: [&str; 1] = ["volatile"];
const VALUES: [(&str, &str); 3] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("redirect_dir", "off"),
];

/// Which call refused, and why.
pub(super) type Refusal = (&'static str, io::Error);

impl Overlay<'_> {
    pub(super) fn mount(&self) -> Result<(), Refusal> {
        match self.mount_by_context() {
            Err(Attempt::Unsupported) => self.mount_by_string(),
            Err(Attempt::Refused(step, error)) => Err((step, error)),
            Ok(()) => Ok(()),
        }
    }

    fn mount_by_context(&self) -> Result<(), Attempt> {
        let context = match rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(Errno::NOSYS) => return Err(Attempt::Unsupported),
            Err(error) => return Err(Attempt::Refused("fsopen overlay", error.into())),
        };
        // Held until the mount is made: the paths of some may go through them.
        let mut held = Vec::new();
        for (i, lower) in self.lowers.iter().enumerate() {
            let value = short(lower, &mut held).map_err(|e| Attempt::Refused("open layer", e))?;
            match rustix::mount::fsconfig_set_string(&context, "lowerdir+", &*value) {
                Err(Errno::INVAL) if i == 0 => return Err(Attempt::Unsupported),
                result => result.map_err(|e| refused(&context, "overlay lowerdir", e))?,
            }
        }
        let set = |key: &'static str, value: &Path| {
            rustix::mount::fsconfig_set_string(&context, key, value)
                .map_err(|error| refused(&context, key, error))
        };
        if let Some(Upper { diff, work }) = &self.upper {
            for (key, path) in [("upperdir", diff), ("workdir", work)] {
                let value = short(path, &mut held).map_err(|e| Attempt::Refused(key, e))?;
                set(key, &value)?;
            }
        }
        for (key, value) in VALUES {
            set(key, Path::new(value))?;
        }
        for key in FLAGS.into_iter().filter(|_| self.upper.is_some()) {
            rustix::mount::fsconfig_set_flag(&context, key)
                .map_err(|error| refused(&context, key, error))?;
        }
        if let Some(label) = &self.options.mount_label {
            set("context", Path::new(label))?;
        }
        rustix::mount::fsconfig_create(&context)
            .map_err(|error| refused(&context, "mount overlay", error))?;
        self.attach(context.as_fd())
    }

    fn attach(&self, context: BorrowedFd<'_>) -> Result<(), Attempt> {
        let mut attributes = MountAttrFlags::empty();
        if self.options.nodev {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
        if self.upper.is_none() {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOSUID;
        }
        let mount = rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| refused(context, "fsmount overlay", error))?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", self.target, "", flags)
            .map_err(|error| Attempt::Refused("move_mount overlay", error.into()))
    }

    /// For kernels before 6.7.
    pub(super) fn mount_by_string(&self) -> Result<(), Refusal> {
        let mut held = Vec::new();
        let mut options = String::from("lowerdir=");
        let mut paths = Vec::new();
        let own = self.upper.iter().flat_map(|own| [&own.diff, &own.work]);
        for path in self.lowers.iter().chain(own) {
            paths.push(by_descriptor(path, &mut held).map_err(|error| ("open layer", error))?);
        }
        let (lowers, own) = paths.split_at(self.lowers.len());
        options += &lowers.join(":");
        if let [upper, work] = own {
            // Writing to a string cannot go wrong.
            let _ = write!(options, ",upperdir={upper},workdir={work}");
        }
        for (key, value) in VALUES {
            let _ = write!(options, ",{key}={value}");
        }
        for flag in FLAGS.into_iter().filter(|_| self.upper.is_some()) {
            let _ = write!(options, ",{flag}");
        }
        if let Some(label) = &self.options.mount_label {
            let _ = write!(options, ",context=\"{label}\"");
        }
        let mut flags = MountFlags::empty();
        if self.options.nodev {
            flags |= MountFlags::NODEV;
        }
        if self.upper.is_none() {
            flags |= MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
        }
        let target = format!("/proc/self/fd/{}", self.target.as_raw_fd());
        let options = std::ffi::CString::new(options)
            .map_err(|error| ("mount overlay", io::Error::from(error)))?;
        rustix::mount::mount("overlay", target, "overlay", flags, Some(&*options))
            .map_err(|error| ("mount overlay", error.into()))
    }
}

/// Why the mount API did not do it.
enum Attempt {
    /// The kernel is too old.
    Unsupported,
    Refused(&'static str, io::Error),
}

/// Unmounts whatever is mounted there, even when busy. Nothing mounted or not there is fine.
pub(super) fn unmount(target: &Path) -> Result<(), Errno> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Once more, in case a crash between two mounts left one above the other.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The path, or one through a descriptor if fsconfig would not take it as it is: too long, or with
/// characters that overlayfs gives a meaning to.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<PathBuf> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= MAX_VALUE && !bytes.iter().any(|b| b"\\:,".contains(b)) {
        return Ok(path.to_path_buf());
    }
    by_descriptor(path, held).map(PathBuf::from)
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let short = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    Ok(short)
}

/// Adds what the kernel wrote into the context (fsopen(2), "The message retrieval interface").
fn refused(context: impl AsFd, step: &'static str, errno: Errno) -> Attempt {
    let mut told = String::new();
    let mut line = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(&context, &mut line) {
        told += if told.is_empty() { "" } else { "; " };
        told += String::from_utf8_lossy(&line[..length]).trim_end();
    }
    let error = io::Error::from(errno);
    if told.is_empty() {
        return Attempt::Refused(step, error);
    }
    Attempt::Refused(
        step,
        io::Error::new(error.kind(), format!("{error}: kernel: {told}")),
    )
}
