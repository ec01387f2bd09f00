//! This process and its children.

use core::ffi::CStr;
use core::num::NonZeroI32;

use crate::Errno;
use crate::arch::number;
use crate::errno::{call, call_again};

/// A process, as this process's PID namespace numbers it; always above 0, so that it can never
/// name a group or everyone to kill(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// The process with this number, if it can be one.
    pub fn new(number: i32) -> Option<Self> {
        NonZeroI32::new(number)
            .filter(|number| number.is_positive())
            .map(Self)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0.get()
    }

    fn arg(self) -> usize {
        usize::try_from(self.number()).unwrap_or(usize::MAX)
    }

    pub(crate) fn from_result(result: usize) -> Option<Self> {
        i32::try_from(result).ok().and_then(Self::new)
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitStatus(u32);

impl WaitStatus {
    /// The signal that ended it, or 0.
    pub fn signal(self) -> i32 {
        (self.0 & 0x7f).cast_signed()
    }

    /// Its exit code; 128 + signal where a signal ended it.
    pub fn exit_code(self) -> i32 {
        match self.signal() {
            0 => ((self.0 >> 8) & 0xff).cast_signed(),
            signal => 128 + signal,
        }
    }

    /// Whether it ended by itself with exit code 0.
    pub fn is_success(self) -> bool {
        self.0 == 0
    }
}

const WNOHANG: usize = 1;

fn wait4(target: usize, options: usize) -> Result<Option<(Pid, WaitStatus)>, Errno> {
    let mut status = 0_u32;
    let args = [target, (&raw mut status).expose_provenance(), options, 0];
    // SAFETY: the kernel writes an int to `status`; no rusage is asked for.
    let pid = unsafe { call_again(number::WAIT4, args) }?;
    Ok(Pid::from_result(pid).map(|pid| (pid, WaitStatus(status))))
}

/// Takes note of one ended child, if there is one, without waiting.
pub fn reap() -> Option<(Pid, WaitStatus)> {
    // The only error is that there is no child.
    wait4(usize::MAX, WNOHANG).ok().flatten()
}

/// Waits for the end of one child.
///
/// # Errors
/// It is no child of this process.
pub fn wait_for(pid: Pid) -> Result<WaitStatus, Errno> {
    wait4(pid.arg(), 0)?
        .map(|(_, status)| status)
        .ok_or(Errno::ECHILD)
}

/// Sends a signal to a process.
///
/// # Errors
/// As kill(2).
pub fn kill(pid: Pid, signal: crate::Signal) -> Result<(), Errno> {
    // SAFETY: kill takes no pointer.
    unsafe { call(number::KILL, [pid.arg(), signal.arg()]) }.map(drop)
}

/// The number of this process.
pub fn own_pid() -> i32 {
    // SAFETY: getpid takes no arguments; it cannot fail.
    let pid = unsafe { call(number::GETPID, [0]) };
    pid.ok()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0)
}

/// Ends this process.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes no pointer and does not return.
        let _ = unsafe { call(number::EXIT_GROUP, [usize::try_from(code).unwrap_or(255)]) };
    }
}

/// Makes this process the leader of a new session, out of reach of a terminal's signals.
///
/// # Errors
/// It leads a process group already.
pub fn session_leader() -> Result<(), Errno> {
    // SAFETY: setsid takes no arguments.
    unsafe { call(number::SETSID, [0]) }.map(drop)
}

const PR_SET_NAME: usize = 15;
const PR_SET_CHILD_SUBREAPER: usize = 36;

/// Makes orphans below this process its children, instead of init's.
///
/// # Errors
/// As prctl(2).
pub fn become_subreaper() -> Result<(), Errno> {
    // SAFETY: this prctl takes no pointer.
    unsafe { call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1]) }.map(drop)
}

/// Sets the name that ps(1) shows; the kernel keeps its first 15 bytes.
pub fn set_name(name: &CStr) {
    // SAFETY: the name is a C string. A name not set is no harm.
    let _ = unsafe {
        call(
            number::PRCTL,
            [PR_SET_NAME, name.as_ptr().expose_provenance()],
        )
    };
}
