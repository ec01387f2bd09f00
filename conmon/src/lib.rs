//! What the daemon and the monitor of a container agree on: one definition for both ends.
//!
//! Pure code without std, without dependencies, without system calls: the packets on the socket
//! ([`Request`], [`Reply`]), the record of how a container ended ([`ExitRecord`]) and the names of
//! the files in the bundle directory. The monitor itself is the binary of this package; those of
//! its rules that can be tested without it stand here too ([`log_record`], [`memory_cgroup`],
//! [`runtime_message`]).
//!
//! # The socket
//! `SOCK_SEQPACKET` unix sockets: one packet is one message, at most [`MAX_PACKET`] bytes.
//! The daemon starts `conmon <container id>` in the bundle directory with one end of a socketpair
//! as fd 0, moves it to its cgroup, and sends [`Request::Create`]. After [`Reply::Created`] that
//! connection behaves as after [`Request::Watch`]. From then on the monitor also listens on
//! [`SOCKET_NAME`] in the bundle directory; there each connection carries one request:
//!
//! | request | descriptors | answers |
//! |---|---|---|
//! | `Create` (socketpair only) | | `Created`, then as `Watch`; or `Failed`, then the monitor exits |
//! | `Watch` | | `Status` at once and on each change, the last one has `Phase::Exited` |
//! | `Start` | | `Started` or `Failed`; while one runs a second one joins it |
//! | `Exec` | stdin, stdout, stderr; none with `terminal` | `ExecStarted` (with the pty's master where `terminal`), then `ExecExited`, or a last `Status` where the container ends before a process that is not in its PID namespace; or `Failed` |
//! | `ReopenLog` | | `Done` after the swap, or `Failed`: nothing has changed |
//! | `Attach` | | `Done`, then `Output`, perhaps `Lagged`; takes `StdinData`, `CloseStdin`, `Resize` |
//! | `Resize` | | `Done` or `Failed` |
//!
//! Any request may be answered by `Failed`; with [`MAX_CLIENTS`] connections open a further one is
//! answered `Busy` and closed. The end of the connection without the last answer means that the
//! monitor has ended: [`EXIT_RECORD`] then says how the container ended, and its absence that the
//! monitor was killed.
//!
//! # Versions
//! Each packet begins with [`VERSION`]. Both ends refuse another version, unknown kinds and bytes
//! too many; monitors outlive the daemon, so a daemon that raises the version keeps the old one.
//!
//! # Crash rule
//! [`EXIT_RECORD`] is written under another name and renamed before any client is told of the
//! exit: whoever has seen `Exited` finds the record, and the record is never half a record.
#![no_std]

#[cfg(test)]
extern crate std;

mod exit_record;
pub mod log_record;
pub mod memory_cgroup;
mod reply;
mod request;
pub mod runtime_message;
mod wire;

pub use exit_record::{ExitRecord, ExitRecordError, MAX_EXIT_RECORD};
pub use reply::{Phase, Reply, Status, Step, Stream};
pub use request::{Create, Exec, Request};
pub use wire::{DecodeError, EncodeError, List, ListIter};

/// The version of the packets, their first byte.
pub const VERSION: u8 = 1;

/// The largest packet, in bytes: below the kernel's default socket buffer (208 KiB, less its own
/// overhead), above every command line that a kubelet's probe or a person types.
pub const MAX_PACKET: usize = 128 * 1024;

/// The most bytes of stdio in one [`Request::StdinData`] or [`Reply::Output`].
pub const MAX_CHUNK: usize = 32 * 1024;

/// The most strings in all lists of one request together: the monitor's argv is a fixed array.
pub const MAX_STRINGS: usize = 8192;

/// The longest message in [`Reply::Failed`], in bytes; of a longer one its end is sent.
pub const MAX_MESSAGE: usize = 4096;

/// The most connections to one monitor at one time, the socketpair included.
pub const MAX_CLIENTS: usize = 64;

/// The most exec'd processes that have a connection or are being started, of one monitor at one
/// time.
pub const MAX_EXECS: usize = 64;

/// The monitor's socket in the bundle directory, mode 0600.
pub const SOCKET_NAME: &str = "conmon.sock";

/// The [`ExitRecord`] in the bundle directory.
pub const EXIT_RECORD: &str = "exit";

/// The runtime's pid file of the container's init, in the bundle directory.
pub const PID_FILE: &str = "pidfile";

/// The runtime's log of create and start, in the bundle directory: JSON lines.
pub const RUNTIME_LOG: &str = "runtime.log";

/// The descriptor on which the monitor expects its socketpair end.
pub const DAEMON_FD: i32 = 0;
