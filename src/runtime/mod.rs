//! The external OCI runtime's command line, its handlers, and the daemon's end of conmon.
//!
//! This room knows bundles and processes; what is in a bundle and what a process means to a pod
//! the rooms above say.

mod handler;
mod invoke;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use handler::{Handler, Handlers};

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
    /// A handler's program is not there or not executable.
    #[error(
        "runtime handler `{handler}`: {key} {path} is not a program that can be run; install it or correct {key} in crio.conf",
        path = path.display()
    )]
    Program {
        /// The handler.
        handler: String,
        /// The key of crio.conf that names the program.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
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
}
