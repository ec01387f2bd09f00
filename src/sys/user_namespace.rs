//! New user namespaces, with the namespaces that they own.
//!
//! `unshare(CLONE_NEWUSER)` is refused to a process with more than one thread (unshare(2)), so a
//! child makes them. It shares the daemon's memory, so that no page table is copied, does nothing
//! but wait, and goes when the namespaces have been pinned or opened.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};

/// Stack of the child, which calls nothing but the kernel.
const STACK_BYTES: usize = 64 << 10;

/// A range of ids: as the namespace's members see it and as the parent namespace does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many ids.
    pub length: u32,
}

/// A process that keeps new namespaces until it is dropped.
#[derive(Debug)]
pub struct Holder {
    child: Pid,
    /// The child runs on it.
    _stack: Box<[u8]>,
}

impl Holder {
    /// Makes a user namespace with these ids, and the namespaces of `others` owned by it.
    ///
    /// # Errors
    /// The kernel's: above all EINVAL for ids that are none, and ENOSPC when
    /// `/proc/sys/user/max_user_namespaces` is reached.
    #[allow(unsafe_code)]
    pub fn new(others: CloneFlags, uids: Range, gids: Range) -> io::Result<Holder> {
        let mut stack = vec![0; STACK_BYTES].into_boxed_slice();
        let flags = others | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_VM;
        let daemon = getpid().as_raw();
        // SAFETY: the stack is the child's alone and outlives it (`Drop` waits for the child before
        // the field goes), its top is aligned as the ABI wants it. The child runs `wait_for_the_end`
        // only, which neither allocates nor takes locks nor touches thread-local memory, so that the
        // memory it shares stays as the daemon's threads expect it.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(STACK_BYTES);
            let top = top.sub(top.addr() % 16);
            let argument =
                std::ptr::without_provenance_mut::<c_void>(daemon.unsigned_abs() as usize);
            libc::clone(wait_for_the_end, top.cast(), flags.bits(), argument)
        };
        let holder = Holder {
            child: Pid::from_raw(Errno::result(pid)?),
            _stack: stack,
        };
        for (file, range) in [("uid_map", uids), ("gid_map", gids)] {
            let Range {
                inside,
                outside,
                length,
            } = range;
            let line = format!("{inside} {outside} {length}\n");
            fs::write(format!("/proc/{}/{file}", holder.child), line)?;
        }
        Ok(holder)
    }

    /// The kernel's file of one of the namespaces: `user`, `net`, `ipc`, `uts`.
    pub fn file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/ns/{name}", self.child).into()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It cannot be gone: nobody else waits for it, and it ends by this signal alone.
        let _gone = kill(self.child, Signal::SIGKILL);
        // __WALL: it was made without a signal to its parent.
        while waitpid(self.child, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    }
}

/// All that the child does. rustix's calls go to the kernel without the C library, whose `errno`
/// belongs to the thread that made the child.
extern "C" fn wait_for_the_end(daemon: *mut c_void) -> i32 {
    let with_parent =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // The daemon may have ended before it was set.
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    while with_parent.is_ok() && parent.unsigned_abs() as usize == daemon.addr() {
        rustix::event::pause();
    }
    1
}

/// A user namespace with these ids and no member, for as long as the descriptor is open.
///
/// # Errors
/// As [`Holder::new`].
#[cfg(test)]
pub fn unpopulated(uids: Range, gids: Range) -> io::Result<OwnedFd> {
    let holder = Holder::new(CloneFlags::empty(), uids, gids)?;
    Ok(fs::File::open(holder.file("user"))?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Command;

    use super::*;

    const RANGE: Range = Range {
        inside: 0,
        outside: 100_000,
        length: 65_536,
    };

    #[test]
    fn a_held_namespace_has_its_ids_and_owns_the_others_and_its_holder_goes() {
        let net = CloneFlags::CLONE_NEWNET;
        let gids = Range {
            outside: 200_000,
            ..RANGE
        };
        let holder = Holder::new(net, RANGE, gids).unwrap();
        let child = holder.child;
        for (file, want) in [("uid_map", "100000"), ("gid_map", "200000")] {
            let mut text = String::new();
            let path = format!("/proc/{child}/{file}");
            fs::File::open(path)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(words, ["0", want, "65536"]);
        }
        // Root of the new user namespace may change the network that it owns, and no other.
        let output = Command::new("nsenter")
            .arg(format!("--user={}", holder.file("user").display()))
            .arg(format!("--net={}", holder.file("net").display()))
            .args(["ip", "link", "set", "lo", "up"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        drop(holder);
        assert!(!fs::exists(format!("/proc/{child}")).unwrap());
    }

    #[test]
    fn ids_that_are_none_are_refused_and_leave_no_process() {
        let bad = Range { length: 0, ..RANGE };
        let error = Holder::new(CloneFlags::empty(), bad, RANGE).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(unpopulated(RANGE, RANGE).is_ok());
    }
}
