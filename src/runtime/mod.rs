//! The external OCI runtime's command line, its handlers, and the daemon's end of conmon.
//!
//! This room knows bundles and processes; what is in a bundle and what a process means to a pod
//! the rooms above say.

mod attachment;
mod connection;
mod execution;
mod features;
mod handler;
mod invoke;
mod monitor;
mod remembered;
mod states;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::sys::ShuttingDown;
pub use attachment::{Attachment, MAX_INPUT, Piece, Room};
pub use conmon::{Phase, Status};
pub use execution::{Execution, OnHangup};
pub use features::Features;
pub use handler::{Handler, Handlers, Known as KnownHandlers, Program};
pub use monitor::{Monitor, NewContainer, Watch};

/// A call of the OCI runtime or of a monitor did not work.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No handler of this name is configured.
    #[error(
        "runtime handler `{name}` is not configured (there are: {}); add [crio.runtime.runtimes.{name}] to crio.conf",
        known.join(", ")
    )]
    NoHandler {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The program could not be started.
    #[error("{step}: {source}")]
    Spawn {
        /// The call.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("{step}: {status}: {stderr}")]
    Failed {
        /// The call.
        step: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error, bounded.
        stderr: String,
    },
    /// The program did not end in time.
    #[error("{step}: no answer within {} s", deadline.as_secs())]
    TimedOut {
        /// The call.
        step: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// Nobody wants the container any more.
    #[error("the pod was stopped while the container was being created")]
    Cancelled,
    /// The monitor was reached but did not do what it was asked.
    #[error("{at}: {message}")]
    Refused {
        /// What was asked.
        step: &'static str,
        /// What the monitor was doing.
        at: conmon::Step,
        /// The runtime's exit code; -1 where it did not run.
        runtime_exit_code: i32,
        /// The runtime's own words, or the kernel's.
        message: String,
    },
    /// The monitor has as much to do as it takes on.
    #[error(
        "the container's monitor serves {max} requests already; wait for one of them to end",
        max = conmon::MAX_CLIENTS
    )]
    Busy,
    /// The socket to the monitor did not work.
    #[error("the container's monitor: {step}: {source}")]
    Monitor {
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The container ended before a command that is not in its PID namespace.
    #[error("the container has ended before the command")]
    ContainerEnded,
    /// An attached client did not take the output as fast as the container wrote it.
    #[error(
        "the client does not keep up with the container's output and was cut off; the log has all of it"
    )]
    Lagged,
    /// The monitor ended instead of answering.
    #[error("the container's monitor has ended without an answer")]
    MonitorGone,
    /// The request does not fit a packet.
    #[error("the request to the container's monitor: {0}")]
    Request(conmon::EncodeError),
    /// The monitor's packet is none of the protocol.
    #[error("the answer of the container's monitor: {0}")]
    Protocol(conmon::DecodeError),
    /// The monitor's exit record is damaged.
    #[error("{path}: {source}", path = path.display())]
    ExitRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: conmon::ExitRecordError,
    },
    /// A blocking task was stopped, which happens only while the daemon ends.
    #[error("{0}")]
    ShuttingDown(#[from] ShuttingDown),
}
