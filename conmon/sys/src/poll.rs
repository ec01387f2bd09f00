//! Waiting for descriptors.

use crate::arch::number;
use crate::errno::call;
use crate::{Errno, Fd};

/// There is something to read, or the other end is gone.
pub const READABLE: i16 = 0x1;
/// A file of the kernel's has changed: POLLPRI.
pub const CHANGED: i16 = 0x2;
/// There is room to write.
pub const WRITABLE: i16 = 0x4;

/// One descriptor to wait for: struct pollfd of poll(2).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PollFd {
    fd: i32,
    events: i16,
    returned: i16,
}

impl PollFd {
    /// Waits for nothing.
    pub const NONE: Self = Self {
        fd: -1,
        events: 0,
        returned: 0,
    };

    /// Waits for `events` at the descriptor, and always for its other end to go.
    pub fn new(fd: &Fd, events: i16) -> Self {
        Self {
            fd: fd.number(),
            events,
            returned: 0,
        }
    }

    /// Whether what it waits for has come, or the other end is gone, or the descriptor is bad.
    pub fn is_ready(&self) -> bool {
        self.returned != 0
    }
}

/// Waits until one of the descriptors is ready, or for `timeout_ns` where given. Returns how many
/// are ready.
///
/// # Errors
/// As ppoll(2); being interrupted is no error but none ready.
pub fn poll(fds: &mut [PollFd], timeout_ns: Option<u64>) -> Result<usize, Errno> {
    let timeout = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let timeout = timeout
        .as_ref()
        .map_or(0, |time| (&raw const *time).expose_provenance());
    let no_mask = 0;
    let args = [
        fds.as_mut_ptr().expose_provenance(),
        fds.len(),
        timeout,
        no_mask,
        8,
    ];
    // SAFETY: the kernel writes to the `returned` fields and to the timeout, which is a temporary
    // of this frame and a struct timespec on 64 bit.
    match unsafe { call(number::PPOLL, args) } {
        Err(Errno::EINTR) => {
            fds.iter_mut().for_each(|fd| fd.returned = 0);
            Ok(0)
        }
        result => result,
    }
}
