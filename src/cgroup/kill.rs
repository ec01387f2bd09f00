//! Ending every process of a cgroup, and waiting until none is left.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::CgroupError;
use super::layout::{self, Controller};
use super::path::{CgroupPath, directory};
use super::tree::{self, Stop};
use super::{Cgroups, Hierarchy, Version};

/// How many processes a message names.
const NAMED: usize = 16;
/// How many process descriptors are open at once for one purpose, well below the usual limit of a
/// service.
const MAX_PIDFDS: usize = 256;

impl Cgroups {
    /// Kills every process in the cgroup and below it, also frozen ones and those that fork while
    /// it is done, and waits until they have ended, at most `patience`. A cgroup that does not
    /// exist has nothing to kill. They may still be zombies: reaping is their parent's business.
    pub fn kill(&self, path: &str, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        let path = directory(path)?;
        let Some((hierarchy, dir)) = self.where_processes_are(&path)? else {
            return Ok(());
        };
        let own = tree::read_proc("/proc/self/cgroup")?;
        if holds_daemon(hierarchy, &path, &own) {
            return Err(CgroupError::OwnCgroup {
                path: path.to_string(),
            });
        }
        let killed_by_kernel = self.version == Version::V2
            && match tree::write_file(dir.as_fd(), c"cgroup.kill", "1") {
                Ok(()) => true,
                // Before Linux 5.14 there is no such file; a threaded cgroup refuses.
                Err(Errno::NOENT | Errno::OPNOTSUPP) => false,
                Err(Errno::NODEV) => return Ok(()),
                Err(errno) => return Err(hierarchy.fault(path.as_str(), "killing it", errno)),
            };
        if !killed_by_kernel {
            self.kill_each(hierarchy, dir.as_fd(), &path, deadline)?;
        }
        match wait_empty(hierarchy, dir.as_fd(), &path, deadline)? {
            Emptied::Already | Emptied::Now => Ok(()),
            Emptied::No => {
                let mut pids = hierarchy.processes(dir.as_fd(), &path)?;
                pids.truncate(NAMED);
                Err(CgroupError::StillAlive {
                    path: path.to_string(),
                    pids,
                    waited: patience,
                })
            }
        }
    }

    /// The processes of the cgroup and of those below it; none if it does not exist.
    pub fn processes(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        let path = directory(path)?;
        match self.where_processes_are(&path)? {
            Some((hierarchy, dir)) => hierarchy.processes(dir.as_fd(), &path),
            None => Ok(Vec::new()),
        }
    }

    /// The hierarchy in which to look for a cgroup's processes. On v1 OCI runtimes put them into
    /// all; freezer comes first because it is used to hold them, and a monitor's may only be in
    /// memory or that of systemd.
    fn where_processes_are(
        &self,
        path: &CgroupPath,
    ) -> Result<Option<(&Hierarchy, OwnedFd)>, CgroupError> {
        let rank = |hierarchy: &&Hierarchy| match self.version {
            Version::V2 => usize::from(!hierarchy.unified),
            Version::V1 if hierarchy.holds(Controller::Freezer) => 0,
            Version::V1 if hierarchy.holds(Controller::Pids) => 1,
            Version::V1 if hierarchy.holds(Controller::Memory) => 2,
            Version::V1 if hierarchy.named || hierarchy.unified => 3,
            Version::V1 => 4,
        };
        let mut ranked: Vec<&Hierarchy> = self.hierarchies.iter().collect();
        ranked.sort_by_key(rank);
        for hierarchy in ranked {
            if let Some(dir) = hierarchy.enter(path.as_str())? {
                return Ok(Some((hierarchy, dir)));
            }
        }
        Ok(None)
    }

    /// Where the kernel has no call for it: freeze, signal until no new process shows up, thaw,
    /// wait; again until nobody is left. Without the freezer a process that forks faster than we
    /// list would win.
    fn kill_each(
        &self,
        hierarchy: &Hierarchy,
        dir: BorrowedFd<'_>,
        path: &CgroupPath,
        deadline: Instant,
    ) -> Result<(), CgroupError> {
        loop {
            let freezable = hierarchy.holds(Controller::Freezer);
            if freezable {
                // Freezing need not be complete: from here on each process can finish the fork
                // that it is in, and no other.
                let _ = tree::write_file(dir, c"freezer.state", "FROZEN");
            }
            let killed = signal_all(hierarchy, dir, path, deadline);
            if freezable {
                thaw(dir);
            }
            let killed = killed?;
            if killed.is_empty() {
                return Ok(());
            }
            for process in &killed {
                if !wait_readable(process.as_fd(), PollFlags::IN, deadline)? {
                    return Ok(());
                }
            }
        }
    }
}

/// True if the cgroup would take the daemon with it; `own` is the text of /proc/self/cgroup. It is
/// read each time, for the daemon can be moved.
pub(super) fn holds_daemon(hierarchy: &Hierarchy, path: &CgroupPath, own: &str) -> bool {
    layout::own_path(own, &hierarchy.mount).is_some_and(|own| path.holds(&own))
}

/// Sends SIGKILL to all processes until a listing shows no new one. Returns some of them, to wait
/// for; none if there was nobody.
fn signal_all(
    hierarchy: &Hierarchy,
    dir: BorrowedFd<'_>,
    path: &CgroupPath,
    deadline: Instant,
) -> Result<Vec<OwnedFd>, CgroupError> {
    let mut signalled = BTreeSet::new();
    let mut awaited = Vec::new();
    loop {
        let mut fresh = Vec::new();
        for pid in hierarchy.processes(dir, path)? {
            if fresh.len() == MAX_PIDFDS {
                break;
            }
            if !signalled.contains(&pid)
                && let Some(process) = open_process(pid)?
            {
                fresh.push((pid, process));
            }
        }
        if fresh.is_empty() || Instant::now() >= deadline {
            return Ok(awaited);
        }
        // A pid may have been given to a stranger between listing and opening. What is listed
        // again after it was opened is the process that was opened.
        let still = hierarchy.processes(dir, path)?;
        for (pid, process) in fresh {
            signalled.insert(pid);
            if still.binary_search(&pid).is_ok() {
                // Gone meanwhile is as good.
                let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
                if awaited.len() < MAX_PIDFDS {
                    awaited.push(process);
                }
            }
        }
    }
}

/// Opens a process; `None` if it has ended and been reaped.
fn open_process(pid: u32) -> Result<Option<OwnedFd>, CgroupError> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(CgroupError::Io {
            path: format!("/proc/{pid}").into(),
            step: "opening the process (pidfd_open)",
            source: errno.into(),
        }),
    }
}

/// Lets all run again, also in cgroups that a container froze itself: a frozen process of v1 does
/// not even die.
fn thaw(top: BorrowedFd<'_>) {
    let mut thaw_one = |dir: BorrowedFd<'_>| {
        let _ = tree::write_file(dir, c"freezer.state", "THAWED");
        Ok::<(), Stop>(())
    };
    // A cgroup that vanishes during the walk has nobody to thaw; the next round sees the rest.
    let _ = tree::walk(top, &mut thaw_one, &mut |_, _| Ok(()));
}

/// How a wait for an empty cgroup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    /// Nobody was in it.
    Already,
    /// The last one left it.
    Now,
    /// The deadline passed.
    No,
}

/// Waits until no process lives in the cgroup or below it.
pub(super) fn wait_empty(
    hierarchy: &Hierarchy,
    dir: BorrowedFd<'_>,
    path: &CgroupPath,
    deadline: Instant,
) -> Result<Emptied, CgroupError> {
    if hierarchy.unified {
        wait_unpopulated(dir, deadline).map_err(|errno| {
            hierarchy.fault(
                path.as_str(),
                "waiting until it is empty (cgroup.events)",
                errno,
            )
        })
    } else {
        wait_all_dead(hierarchy, dir, path, deadline)
    }
}

/// v2: the kernel says so in `cgroup.events`.
fn wait_unpopulated(dir: BorrowedFd<'_>, deadline: Instant) -> Result<Emptied, Errno> {
    let events = match tree::open_events(dir) {
        Ok(events) => events,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(Emptied::Already),
        Err(errno) => return Err(errno),
    };
    let mut waited = false;
    loop {
        let mut buffer = [0_u8; 256];
        let read = match rustix::io::pread(&events, &mut buffer, 0) {
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(Errno::NODEV) => return Ok(Emptied::Now),
            Err(errno) => return Err(errno),
        };
        let populated = buffer[..read]
            .split(|&byte| byte == b'\n')
            .any(|line| line == b"populated 1");
        match (populated, waited) {
            (false, false) => return Ok(Emptied::Already),
            (false, true) => return Ok(Emptied::Now),
            (true, _) => {}
        }
        if !poll_until(events.as_fd(), PollFlags::PRI, deadline)? {
            return Ok(Emptied::No);
        }
        waited = true;
    }
}

/// v1: each process says so itself, and new ones are looked for until there are none.
fn wait_all_dead(
    hierarchy: &Hierarchy,
    dir: BorrowedFd<'_>,
    path: &CgroupPath,
    deadline: Instant,
) -> Result<Emptied, CgroupError> {
    let mut waited = false;
    loop {
        let pids = hierarchy.processes(dir, path)?;
        let Some(&first) = pids.first() else {
            return Ok(if waited {
                Emptied::Now
            } else {
                Emptied::Already
            });
        };
        match open_process(first)? {
            Some(process) if !wait_readable(process.as_fd(), PollFlags::IN, deadline)? => {
                return Ok(Emptied::No);
            }
            None if Instant::now() >= deadline => return Ok(Emptied::No),
            Some(_) | None => waited = true,
        }
    }
}

fn wait_readable(
    file: BorrowedFd<'_>,
    flags: PollFlags,
    deadline: Instant,
) -> Result<bool, CgroupError> {
    poll_until(file, flags, deadline).map_err(|errno| CgroupError::Io {
        path: "pidfd".into(),
        step: "waiting for a process to end",
        source: errno.into(),
    })
}

/// True if the file became ready, false if the deadline passed.
fn poll_until(file: BorrowedFd<'_>, flags: PollFlags, deadline: Instant) -> Result<bool, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(file, flags)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
