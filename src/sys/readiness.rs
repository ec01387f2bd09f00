//! Waiting for a descriptor without a thread.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor that it owns with the async runtime's poller.
///
/// # Errors
/// When the kernel cannot poll the descriptor, or the process may watch no more.
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open and the same as long as it is registered. `AsyncFd`
    // owns the `OwnedFd`, hands out shared references only, and deregisters before it drops it.
    #[allow(unsafe_code)]
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}
