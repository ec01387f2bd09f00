//! Signals: blocked and waited for, or ignored; there are no handlers.

use crate::arch::number;
use crate::errno::{call, call_again};
use crate::{Errno, Fd};

/// The signals that conmon and pause have to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The terminal is gone.
    Hangup = 1,
    /// Ctrl-C.
    Interrupt = 2,
    /// The end, not to be avoided.
    Kill = 9,
    /// Nobody reads what is written.
    Pipe = 13,
    /// A request to end.
    Terminate = 15,
    /// A child has ended.
    Child = 17,
    /// Hold still, not to be avoided.
    Stop = 19,
}

const SIGNAL_SET_BYTES: usize = 8;
const SIG_SETMASK: usize = 2;
const SFD_NONBLOCK_CLOEXEC: usize = 0o4000 | 0o200_0000;

impl Signal {
    pub(crate) fn arg(self) -> usize {
        self as usize
    }

    fn bit(self) -> u64 {
        1 << (self as u32 - 1)
    }
}

fn set_of(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |set, signal| set | signal.bit())
}

/// Blocks these signals and no others: they stay pending until they are waited for. PID 1 of a
/// namespace gets even those that it would otherwise be spared.
pub fn block(signals: &[Signal]) {
    let set = set_of(signals);
    let args = [
        SIG_SETMASK,
        (&raw const set).expose_provenance(),
        0,
        SIGNAL_SET_BYTES,
    ];
    // SAFETY: the kernel reads a signal set of 8 bytes. It cannot fail with these arguments.
    let _ = unsafe { call(number::RT_SIGPROCMASK, args) };
}

/// struct sigaction as the kernel, not libc, has it.
#[repr(C)]
struct SigAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const SIG_DEFAULT: usize = 0;
const SIG_IGNORE: usize = 1;

fn set_action(signal: Signal, handler: usize) {
    let action = SigAction {
        handler,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let args = [
        signal.arg(),
        (&raw const action).expose_provenance(),
        0,
        SIGNAL_SET_BYTES,
    ];
    // SAFETY: the kernel reads one struct; neither action has code of ours run.
    let _ = unsafe { call(number::RT_SIGACTION, args) };
}

/// Ignores a signal.
pub fn ignore(signal: Signal) {
    set_action(signal, SIG_IGNORE);
}

/// Undoes [`ignore`] and [`block`] before exec, which would hand both on.
pub(crate) fn reset() {
    for signal in [
        Signal::Hangup,
        Signal::Interrupt,
        Signal::Pipe,
        Signal::Terminate,
    ] {
        set_action(signal, SIG_DEFAULT);
    }
    block(&[]);
}

/// A descriptor that is readable while one of these signals is pending; they must be blocked.
///
/// # Errors
/// As signalfd(2).
pub fn signal_fd(signals: &[Signal]) -> Result<Fd, Errno> {
    let set = set_of(signals);
    let new = usize::MAX;
    let args = [
        new,
        (&raw const set).expose_provenance(),
        SIGNAL_SET_BYTES,
        SFD_NONBLOCK_CLOEXEC,
    ];
    // SAFETY: the kernel reads a signal set of 8 bytes.
    unsafe { call(number::SIGNALFD4, args) }.map(Fd::from_result)
}

/// Waits for one of these signals, which must be blocked, and takes it. None: another wait.
pub fn wait_for_signal(signals: &[Signal]) -> Option<Signal> {
    let set = set_of(signals);
    let args = [(&raw const set).expose_provenance(), 0, 0, SIGNAL_SET_BYTES];
    // SAFETY: the kernel reads a signal set of 8 bytes; no siginfo and no timeout are given.
    let taken = unsafe { call_again(number::RT_SIGTIMEDWAIT, args) };
    signals
        .iter()
        .copied()
        .find(|signal| Ok(signal.arg()) == taken)
}
