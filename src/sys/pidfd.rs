//! Processes by descriptor, so that a reused pid is never taken for the process that had it.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;

use super::readiness;

/// A process that was alive when this was made.
#[derive(Debug)]
pub struct Process {
    descriptor: OwnedFd,
}

impl Process {
    /// The process `pid` if it lives and started at `start_time` (field 22 of `/proc/<pid>/stat`,
    /// clock ticks since boot), or at any time when that is `None`.
    pub fn open(pid: i32, start_time: Option<u64>) -> Option<Self> {
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
        // Read after the open: were the pid reused in between, its start time tells.
        let same = start_time.is_none_or(|expected| self::start_time(pid) == Some(expected));
        same.then_some(Self { descriptor })
    }

    /// Sends SIGKILL. Gone already is fine.
    pub fn kill(&self) {
        // ESRCH is the only error that can come for a descriptor of ours, and root may signal all.
        let _gone = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }

    /// Sends a signal by its number, which may be one of the real-time ones. Gone already is fine.
    #[allow(unsafe_code, reason = "no crate sends real-time signals by descriptor")]
    pub fn signal(&self, number: i32) {
        use std::os::fd::AsRawFd;
        // SAFETY: pidfd_send_signal(2) reads nothing through the null pointer, which stands for the
        // information that kill(2) sends; the descriptor is open as long as `self`.
        let _gone = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.descriptor.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
    }

    /// Waits until the process has ended (it may still be a zombie).
    ///
    /// # Errors
    /// When the descriptor cannot be registered for polling.
    pub async fn ended(self) -> std::io::Result<()> {
        let watched = readiness::watch(self.descriptor, Interest::READABLE)?;
        watched.readable().await.map(drop)
    }
}

/// When process `pid` started, in clock ticks since boot: proc_pid_stat(5), field 22.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_pid_and_start_time_and_its_end_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_time(pid).unwrap();
        assert!(
            Process::open(pid, Some(started + 1)).is_none(),
            "another process of that pid"
        );
        let process = Process::open(pid, Some(started)).unwrap();
        process.kill();
        process.ended().await.unwrap();
        child.wait().unwrap();
        assert!(Process::open(pid, None).is_none());
    }
}
