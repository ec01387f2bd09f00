//! Processes by descriptor, so that a reused pid is never taken for the process that had it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;

use super::process_stat;
use super::readiness;
use super::want::is_want;

/// How long a dead process may stay unreaped until its status counts as unknown: whoever inherits an
/// orphan reaps it at once.
const REAP_WAIT: Duration = Duration::from_secs(2);

/// How long to wait before the kernel is asked again for what it could not give.
const AGAIN: Duration = Duration::from_secs(1);

/// A process that was alive when this was made.
#[derive(Debug)]
pub struct Process {
    descriptor: OwnedFd,
}

impl Process {
    /// The process `pid` if it lives and started at `start_time` (field 22 of `/proc/<pid>/stat`,
    /// clock ticks since boot), or at any time when that is `None`.
    ///
    /// # Errors
    /// When it cannot be known, for want of descriptors or memory: the process may live.
    pub fn open(pid: i32, start_time: Option<u64>) -> io::Result<Option<Self>> {
        let Some(id) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(id, PidfdFlags::NONBLOCK) {
            Ok(descriptor) => descriptor,
            Err(error) if is_want(&error.into()) => return Err(error.into()),
            // ESRCH; EINVAL or ENOENT: a thread that leads no process has the number now.
            Err(_) => return Ok(None),
        };
        let Some(expected) = start_time else {
            return Ok(Some(Self { descriptor }));
        };
        // Read after the open: were the pid reused in between, its start time tells.
        let same = self::start_time(pid)? == Some(expected);
        Ok(same.then_some(Self { descriptor }))
    }

    /// As [`open`](Self::open), again and again until it can be known.
    pub async fn open_patiently(pid: i32, start_time: u64) -> Option<Self> {
        let mut told = false;
        loop {
            match Process::open(pid, Some(start_time)) {
                Ok(process) => return process,
                Err(error) if !told => {
                    tracing::warn!(pid, %error, "whether the process lives is not known, asked again")
                }
                Err(_) => {}
            }
            told = true;
            tokio::time::sleep(AGAIN).await;
        }
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
    pub async fn ended(self) -> io::Result<()> {
        let watched = readiness::watch(self.descriptor, Interest::READABLE)?;
        watched.readable().await.map(drop)
    }

    /// Waits until the process has ended, and tells its exit code as a shell does (128 and the signal
    /// that ended it), although it is nobody's child here. `None`: it cannot be known. Linux tells it
    /// since 6.15, once the process was reaped, to who opened it before.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub async fn exit_code(self) -> io::Result<Option<i32>> {
        let watched = readiness::watch(self.descriptor, Interest::READABLE)?;
        let mut ready = watched.readable().await?;
        let reaped = async {
            loop {
                match exit_status(watched.get_ref()) {
                    Ok(None) => {}
                    told => return Ok::<_, io::Error>(told.ok().flatten()),
                }
                // The reaping is told as a hang-up, after the end was told as readable.
                ready.clear_ready();
                ready = watched.readable().await?;
            }
        };
        let status = match tokio::time::timeout(REAP_WAIT, reaped).await {
            Ok(status) => status?,
            Err(_) => None,
        };
        Ok(status.map(|status| match status & 0x7f {
            0 => status >> 8 & 0xff,
            signal => 128 + signal,
        }))
    }
}

/// The wait status (wait(2)) of a process that was reaped; `None`: it was not yet.
fn exit_status(process: &OwnedFd) -> io::Result<Option<i32>> {
    // linux/pidfd.h: PIDFD_GET_INFO is _IOWR(0xFF, 11, struct pidfd_info), here of its first version,
    // whose size is the 0x40.
    const SIZE: usize = 64;
    // The number's type is the C library's: musl's has 32 bits.
    const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;
    const INFO_EXIT: u64 = 1 << 3;
    const EXIT_CODE_AT: usize = 60;
    // Aligned as the structure; its first field says what is asked for, and then what was told.
    let mut info = [0u64; SIZE / 8];
    info[0] = INFO_EXIT;
    // SAFETY: the kernel writes at most SIZE bytes, which the request's number says, into `info`,
    // which has as many and outlives the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let last = info[EXIT_CODE_AT / 8].to_ne_bytes();
    let code = i32::from_ne_bytes([last[4], last[5], last[6], last[7]]);
    Ok((info[0] & INFO_EXIT != 0).then_some(code))
}

/// When process `pid` started, in clock ticks since boot: proc_pid_stat(5), field 22. `None`: there is
/// no such process.
///
/// # Errors
/// When it cannot be known, for want of descriptors or memory.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_want(&error) => return Err(error),
        // ENOENT; ESRCH: it ended while it was read.
        Err(_) => return Ok(None),
    };
    let stat = String::from_utf8_lossy(&stat);
    let field = process_stat::fields(&stat).nth(19);
    Ok(field.and_then(|field| field.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn how_a_process_ended_is_told_once_it_was_reaped_or_not_at_all() {
        for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("true", 0)] {
            let script = format!("read go; {script}");
            let mut child = std::process::Command::new("sh")
                .args(["-c", &script])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let process = Process::open(i32::try_from(child.id()).unwrap(), None);
            let process = process.unwrap().unwrap();
            let told = tokio::spawn(process.exit_code());
            drop(child.stdin.take());
            tokio::task::spawn_blocking(move || child.wait().unwrap())
                .await
                .unwrap();
            // Kernels before 6.15 do not know.
            let told = told.await.unwrap().unwrap();
            assert!(told.is_none() || told == Some(code), "{script}: {told:?}");
            if kernel() >= (6, 15) {
                assert_eq!(told, Some(code), "{script}");
            }
        }
    }

    fn kernel() -> (u32, u32) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    #[tokio::test]
    async fn a_process_is_known_by_pid_and_start_time_and_its_end_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = start_time(pid).unwrap().unwrap();
        assert!(
            Process::open(pid, Some(started + 1)).unwrap().is_none(),
            "another process of that pid"
        );
        let process = Process::open(pid, Some(started)).unwrap().unwrap();
        process.kill();
        process.ended().await.unwrap();
        child.wait().unwrap();
        assert!(Process::open(pid, None).unwrap().is_none());
    }
}
