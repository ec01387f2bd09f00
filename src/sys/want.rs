//! Answers that say nothing of what was asked, because the kernel lacked something to look with.

use std::io;

use rustix::io::Errno;

/// Whether the kernel lacked descriptors or memory: what was asked for may be as it was, and is asked
/// again later. Nothing may be concluded from it.
pub fn is_want(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno))
}
