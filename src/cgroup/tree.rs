//! Directories of a hierarchy: open, make, walk, list, write; always below the mount point.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Hierarchy;
use super::error::CgroupError;
use super::layout::{self, Controller, Kind, Mount};
use super::path::CgroupPath;

/// The most that is read of /proc/self/mountinfo: a node with 500 pods has below 2 MiB.
const MAX_PROC: u64 = 16 << 20;
/// The most cgroups that one call goes through. A container with its own writable cgroup can make
/// as many as its memory limit pays for; a later call goes on where this one stopped.
const MAX_CGROUPS: usize = 65_536;
/// The most processes that are listed: the kernel's own bound (PID_MAX_LIMIT).
const MAX_PIDS: usize = 4 << 20;

/// Reads a file of /proc that grows with the host.
pub(super) fn read_proc(path: &'static str) -> Result<String, CgroupError> {
    let fault = |source| CgroupError::Io {
        path: path.into(),
        step: "reading it",
        source,
    };
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut text = Vec::new();
    file.take(MAX_PROC).read_to_end(&mut text).map_err(fault)?;
    // Paths of other mounts need not be UTF-8; those of cgroup mounts are.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Opens the mount point of a hierarchy. `own` is the text of /proc/self/cgroup.
pub(super) fn open_hierarchy(mount: Mount, own: &str) -> Result<Hierarchy, CgroupError> {
    let root = rustix::fs::open(&mount.point, DIRECTORY, Mode::empty()).map_err(|errno| {
        CgroupError::Io {
            path: mount.point.clone(),
            step: "opening the mount point",
            source: errno.into(),
        }
    })?;
    let mut hierarchy = Hierarchy {
        point: mount.point.clone(),
        root,
        controllers: Vec::new(),
        unified: mount.kind == Kind::Unified,
        named: matches!(mount.kind, Kind::Named(_)),
        own_is_root: layout::own_path(own, &mount).is_some_and(|path| path.is_empty()),
        mount,
    };
    hierarchy.controllers = match &hierarchy.mount.kind {
        Kind::Legacy(names) => names.split(',').filter_map(Controller::parse).collect(),
        Kind::Named(_) => Vec::new(),
        Kind::Unified => {
            let mut buffer = [0; 1024];
            let names = read_file(hierarchy.root.as_fd(), c"cgroup.controllers", &mut buffer)
                .map_err(|errno| hierarchy.fault("cgroup.controllers", "reading it", errno))?;
            names
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(Controller::parse)
                .collect()
        }
    };
    Ok(hierarchy)
}

/// True if the hierarchy accounts for swap. The files of cgroup v2 do not exist in the root, so a
/// cgroup below it is asked.
pub(super) fn accounts_swap(hierarchy: &Hierarchy) -> bool {
    let has = |dir: BorrowedFd<'_>, file: &CStr| {
        rustix::fs::accessat(
            dir,
            file,
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_ok()
    };
    if !hierarchy.holds(Controller::Memory) {
        return false;
    }
    if !hierarchy.unified {
        return has(hierarchy.root.as_fd(), c"memory.memsw.usage_in_bytes");
    }
    children(hierarchy.root.as_fd())
        .unwrap_or_default()
        .iter()
        .any(|name| {
            matches!(enter(hierarchy.root.as_fd(), name), Ok(Some(dir))
            if has(dir.as_fd(), c"memory.swap.max"))
        })
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

impl Hierarchy {
    /// An error of this hierarchy; `path` is relative to the mount point.
    pub(super) fn fault(&self, path: &str, step: &'static str, errno: Errno) -> CgroupError {
        CgroupError::Io {
            path: self.point.join(path),
            step,
            source: errno.into(),
        }
    }

    /// Opens a cgroup; `None` if it does not exist.
    pub(super) fn enter(&self, path: &str) -> Result<Option<OwnedFd>, CgroupError> {
        // A mount over a cgroup (NO_XDEV) would show files that are not the kernel's.
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), resolve) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fault(path, "opening it", errno)),
        }
    }

    /// Makes a cgroup, and those above it that do not exist, and opens it. Idempotent.
    pub(super) fn ensure(&self, path: &CgroupPath) -> Result<OwnedFd, CgroupError> {
        // Nearly always the pod's cgroup exists and ours does not.
        if let (Some(parent), name) = path.split()
            && let Some(parent) = self.enter(parent)?
        {
            return self.make(parent.as_fd(), name, path);
        }
        let mut here = self.enter(".")?.ok_or_else(|| self.gone(path))?;
        for name in path.as_str().split('/') {
            here = self.make(here.as_fd(), name, path)?;
        }
        Ok(here)
    }

    fn make(
        &self,
        parent: BorrowedFd<'_>,
        name: &str,
        path: &CgroupPath,
    ) -> Result<OwnedFd, CgroupError> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.fault(path.as_str(), "making it", errno)),
        }
        let name = CString::new(name).unwrap_or_default();
        enter(parent, &name)
            .map_err(|errno| self.fault(path.as_str(), "opening it", errno))?
            .ok_or_else(|| self.gone(path))
    }

    pub(super) fn too_many(&self, limit: usize) -> CgroupError {
        CgroupError::TooMuch {
            path: self.point.clone(),
            what: "cgroups",
            limit,
        }
    }

    fn gone(&self, path: &CgroupPath) -> CgroupError {
        CgroupError::Gone {
            path: path.to_string(),
        }
    }

    /// The processes of a cgroup and of all below it, each once, in no order.
    pub(super) fn processes(
        &self,
        top: BorrowedFd<'_>,
        path: &CgroupPath,
    ) -> Result<Vec<u32>, CgroupError> {
        let mut pids = Vec::new();
        let too_much = |what, limit| CgroupError::TooMuch {
            path: self.point.join(path.as_str()),
            what,
            limit,
        };
        let mut cgroups = 0;
        walk(
            top,
            &mut |dir| {
                cgroups += 1;
                if cgroups > MAX_CGROUPS {
                    return Err(Stop::TooMany);
                }
                read_processes(dir, &mut pids)?;
                if pids.len() > MAX_PIDS {
                    Err(Stop::TooMany)
                } else {
                    Ok(())
                }
            },
            &mut |_, _| Ok(()),
        )
        .map_err(|stop| match stop {
            Stop::TooMany => too_much("cgroups or processes", MAX_CGROUPS),
            Stop::Errno(errno) => self.fault(path.as_str(), "listing its processes", errno),
        })?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes the cgroups below `top`, deepest first. `Ok(false)`: some still hold processes.
    pub(super) fn remove_below(
        &self,
        top: BorrowedFd<'_>,
        path: &CgroupPath,
    ) -> Result<bool, CgroupError> {
        let mut all = true;
        let mut removed = 0;
        walk(top, &mut |_| Ok(()), &mut |parent, name| {
            removed += 1;
            if removed > MAX_CGROUPS {
                return Err(Stop::TooMany);
            }
            match rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(Errno::BUSY) => {
                    all = false;
                    Ok(())
                }
                Err(errno) => Err(Stop::Errno(errno)),
            }
        })
        .map_err(|stop| match stop {
            Stop::TooMany => CgroupError::TooMuch {
                path: self.point.join(path.as_str()),
                what: "cgroups below it",
                limit: MAX_CGROUPS,
            },
            Stop::Errno(errno) => self.fault(path.as_str(), "removing cgroups below it", errno),
        })?;
        Ok(all)
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Errno(Errno),
    TooMany,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

/// Goes through a cgroup and all below it: `before` gets each directory before those in it,
/// `after` each but the top as (parent, name) after those in it.
///
/// Two descriptors are open at a time, however deep a container nests its cgroups; the way up is
/// `..`, which is safe here because the kernel moves no cgroup to another parent.
pub(super) fn walk(
    top: BorrowedFd<'_>,
    before: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Stop>,
    after: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Stop>,
) -> Result<(), Stop> {
    before(top)?;
    let mut pending = vec![children(top)?];
    let mut names: Vec<CString> = Vec::new();
    let mut here = rustix::fs::openat(top, c".", DIRECTORY, Mode::empty())?;
    while let Some(siblings) = pending.last_mut() {
        if let Some(name) = siblings.pop() {
            let Some(child) = enter(here.as_fd(), &name)? else {
                continue;
            };
            before(child.as_fd())?;
            pending.push(children(child.as_fd())?);
            names.push(name);
            here = child;
        } else {
            pending.pop();
            let Some(name) = names.pop() else { break };
            here = rustix::fs::openat(&here, c"..", DIRECTORY, Mode::empty())?;
            after(here.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// Opens a cgroup by its name in an open one; `None` if it does not exist.
fn enter(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names of the cgroups in a cgroup; none if it was removed meanwhile.
pub(super) fn children(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let entries = match rustix::fs::Dir::read_from(dir) {
        Ok(entries) => entries,
        Err(Errno::NOENT) => return Ok(names),
        Err(errno) => return Err(errno),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(errno) => return Err(errno),
        };
        let name = entry.file_name();
        if entry.file_type() == rustix::fs::FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Adds the processes of one cgroup to `pids`.
fn read_processes(dir: BorrowedFd<'_>, pids: &mut Vec<u32>) -> Result<(), Errno> {
    let file = match open_file(dir, c"cgroup.procs", OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut buffer = [0_u8; 4096];
    let mut kept = 0;
    loop {
        let read = match rustix::io::read(&file, &mut buffer[kept..]) {
            // A threaded cgroup (v2) has no list; its processes stand in that of its domain.
            Ok(0) | Err(Errno::OPNOTSUPP | Errno::NODEV) => return Ok(()),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        let filled = kept + read;
        let whole = buffer[..filled]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = std::str::from_utf8(&buffer[..whole]).unwrap_or_default();
        // 0 stands for a process outside of our pid namespace, which we cannot name.
        pids.extend(
            lines
                .lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|&pid| pid != 0),
        );
        if pids.len() > MAX_PIDS {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

fn open_file(dir: BorrowedFd<'_>, name: &CStr, access: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        dir,
        name,
        access | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}

/// Reads a file of figures; `None` if the cgroup has no such file. A file longer than the buffer
/// is an error (EFBIG).
///
/// One read suffices: the kernel renders such a file as one record and hands it out whole.
pub(super) fn read_file<'b>(
    dir: BorrowedFd<'_>,
    name: &CStr,
    buffer: &'b mut [u8],
) -> Result<Option<&'b str>, Errno> {
    let file = match open_file(dir, name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let read = loop {
        match rustix::io::read(&file, &mut *buffer) {
            Ok(read) => break read,
            Err(Errno::INTR) => {}
            // The cgroup went away, or the kernel has the file but not the feature (PSI off).
            Err(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    };
    if read == buffer.len() {
        return Err(Errno::FBIG);
    }
    Ok(std::str::from_utf8(&buffer[..read]).ok())
}

/// Writes a value to a file of a cgroup.
pub(super) fn write_file(dir: BorrowedFd<'_>, name: &CStr, value: &str) -> Result<(), Errno> {
    let file = open_file(dir, name, OFlags::WRONLY)?;
    rustix::io::write(&file, value.as_bytes()).map(|_| ())
}

/// Opens the file that tells when a cgroup of v2 runs empty.
pub(super) fn open_events(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open_file(dir, c"cgroup.events", OFlags::RDONLY)
}

/// The mount point and path of a cgroup, for messages.
pub(super) fn shown(hierarchy: &Hierarchy, path: &CgroupPath) -> std::path::PathBuf {
    Path::new(&hierarchy.point).join(path.as_str())
}
