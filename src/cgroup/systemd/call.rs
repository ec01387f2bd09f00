//! What is asked of systemd, of whom, and what comes of it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::message::{Body, Target};

/// Where somebody listens who speaks for systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The socket.
    pub(super) socket: PathBuf,
    /// It is a bus, on which systemd is one of many; else it is systemd itself.
    pub(super) is_bus: bool,
}

/// A method call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) member: &'static str,
    pub(super) body: Body,
    /// The answer names a job, whose end is waited for.
    pub(super) is_job: bool,
}

/// Why a call has not had the wanted outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Absent(String),
    /// The connection broke; what became of the call is not known.
    Lost(String),
    /// The call was refused.
    Refused { name: String, text: String },
    /// The job has ended otherwise.
    Job { job: String, result: String },
}

/// A call on its way to the connection.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) call: Call,
    /// Closed when the caller has given up.
    pub(super) told: oneshot::Sender<Result<(), Fault>>,
    /// The job that is waited for, once it is known.
    pub(super) job: Arc<OnceLock<String>>,
}
