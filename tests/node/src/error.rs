//! What can go wrong with a virtual machine, in words for who reads a test's output.

use std::io;
use std::time::Duration;

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A step on this side.
    #[error("{step}: {source}")]
    Io {
        /// What was tried, with the file or program.
        step: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program on this side failed.
    #[error("{program}: {status}: {output}")]
    Program {
        /// With its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// The guest's kernel said on the console that it cannot go on.
    #[error("the virtual machine's kernel: {line}\nthe end of its console:\n{tail}")]
    Kernel {
        /// The line.
        line: String,
        /// The last lines.
        tail: String,
    },
    /// QEMU ended while something was expected of the guest.
    #[error("the virtual machine ended during {during}\nthe end of its console:\n{tail}")]
    Ended {
        /// What was expected.
        during: String,
        /// The last lines of its console.
        tail: String,
    },
    /// The guest did not do something in time.
    #[error("not within {limit:?}: {what}\nthe end of its console:\n{tail}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The last lines of its console.
        tail: String,
    },
    /// A program inside ended with something else than 0.
    #[error("in the virtual machine: {command}: exit {code}\n{output}")]
    Inside {
        /// Its arguments.
        command: String,
        /// 128 + the signal, as shells have it.
        code: i32,
        /// What it wrote, both streams.
        output: String,
    },
    /// The agent or a log of QEMU's wrote what it must not.
    #[error("{0}")]
    Malformed(String),
    /// A test's expectation that does not hold.
    #[error("{0}")]
    Wrong(String),
}

impl NodeError {
    /// For `map_err`: what was tried.
    pub fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
        let step = step.into();
        move |source| NodeError::Io { step, source }
    }
}
