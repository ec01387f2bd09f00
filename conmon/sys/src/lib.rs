//! The floor under `conmon` and `pause`: the few system calls that they make, wrapped so that their
//! own code needs no `unsafe`.
//!
//! No std, no libc, no allocator: an idle monitor then costs its stack and a page of data. rustix
//! could do the same calls, but one workspace cannot build it with std for the daemon and without
//! for these two. [`entry!`] makes a program of a function.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
mod arch;

mod argv;
mod directory;
#[doc(hidden)]
pub mod entry;
mod errno;
mod fd;
mod file;
mod memory;
mod poll;
mod process;
mod room;
mod signal;
mod socket;
mod spawn;
mod terminal;
mod time;

pub use argv::Argv;
pub use directory::{Names, names};
pub use entry::Arguments;
pub use errno::Errno;
pub use fd::{BorrowedFd, Fd, pipe};
pub use file::{
    Access, Kind, Metadata, chmod_file, metadata, metadata_of, open, rename, set_umask, truncate,
    unlink,
};
pub use memory::{map, release};
pub use poll::{CHANGED, PollFd, READABLE, WRITABLE, poll};
pub use process::{
    Pid, WaitStatus, become_subreaper, exit, kill, own_pid, reap, session_leader, set_name,
    wait_for,
};
pub use room::{Room, private_tmpfs, room};
pub use signal::{Signal, block, ignore, signal_fd, wait_for_signal};
pub use socket::{
    MAX_PASSED_FDS, Packet, SocketKind, accept, bind, bind_and_listen, listen, receive, send,
    set_send_buffer,
};
pub use spawn::{Spawner, Stdio};
pub use terminal::set_window_size;
pub use time::{monotonic_ns, wall_clock_ns};
