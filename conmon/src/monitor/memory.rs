//! Whether the kernel has killed in the container for lack of memory.
//!
//! With systemd the cgroup goes as soon as it is empty, perhaps before the monitor has been given a
//! processor to read its counter. So the counter is read whenever the kernel says that it has
//! changed, and at once when the container has ended.

use nostd_sys::{Fd, WaitStatus};

use conmon::memory_cgroup::{has_oom_kill, has_reached_limit};

/// SIGKILL, by which the kernel kills then.
const KILLED: i32 = 9;

/// The counter, and what it has said.
#[derive(Debug)]
pub(super) struct Memory {
    counter: Option<Fd>,
    /// The kernel tells of changes (cgroup v2).
    tells: bool,
    /// It has killed.
    killed: bool,
    /// There was no more to be had: it was about to kill.
    at_limit: bool,
    /// The counter went before the container's end was seen.
    lost: bool,
}

impl Memory {
    /// Without a counter there is no verdict.
    pub(super) const UNKNOWN: Memory = Memory {
        counter: None,
        tells: false,
        killed: false,
        at_limit: false,
        lost: false,
    };

    /// The verdict by this counter.
    pub(super) fn counted_by(counter: Fd, tells: bool) -> Memory {
        Memory {
            counter: Some(counter),
            tells,
            ..Memory::UNKNOWN
        }
    }

    /// What to wait for: a change.
    pub(super) fn awaited(&self) -> Option<&Fd> {
        self.counter.as_ref().filter(|_| self.tells)
    }

    /// Reads the counter. One that has gone is let go of: it would be ready for ever.
    pub(super) fn look(&mut self, buffer: &mut [u8]) {
        match self
            .counter
            .as_ref()
            .map(|counter| counter.read_start(buffer))
        {
            Some(Ok(text)) => {
                self.killed |= has_oom_kill(text);
                self.at_limit |= has_reached_limit(text);
            }
            Some(Err(_)) => {
                self.counter = None;
                self.lost = true;
            }
            None => {}
        }
    }

    /// Whether a container that ended so did for lack of memory. When the counter went first, one
    /// that was about to be killed and was is taken to have been killed for that.
    pub(super) fn was_short(&self, status: WaitStatus) -> bool {
        self.killed || (self.lost && self.at_limit && status.signal() == KILLED)
    }
}
