//! Exec with streams: run a command in a container, and join it to a client.
//!
//! When the client goes away, a command on a terminal is hung up, as by the end of any terminal;
//! one without is left to itself, as containerd and CRI-O do: its input ends, and it writes to
//! closed pipes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::exec::{DRAIN, not_empty};
use super::pump::{self, DrainEnd, besides};
use super::sources::io_error;
use super::{Container, ContainerError, Containers, Record, Streams, TerminalSize, pipes};
use crate::runtime::{Execution, OnHangup};
use crate::sys::terminal::Master;

/// How long a command waits for its turn, when as many run in the container as may.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a command on a terminal waits for its first size, which a client sends right away. The
/// terminal then has it before the command looks.
const FIRST_SIZE: Duration = Duration::from_millis(50);

impl Container {
    /// Waits until one more command could run in the container, as [`Containers::exec_stream`]
    /// does: for a client that is to be sent there.
    ///
    /// # Errors
    /// When as many run as may, and none has ended for ten seconds.
    pub async fn room_for_command(&self) -> Result<(), ContainerError> {
        self.turn(Some(Instant::now() + TURN_WAIT)).await.map(drop)
    }
}

impl Containers {
    /// Runs a command in a running container, on a terminal of its own or not, joined to the
    /// client's ends of its streams. Returns the exit code (128 + signal when a signal ended it)
    /// when it has ended, all that it wrote has been passed on, and the client's ends are shut
    /// down. What the command has left behind may write for half a second more.
    ///
    /// The end of the client's input closes the command's, but not a terminal.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or the command cannot be started.
    pub async fn exec_stream(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        let container = self.running(id)?;
        not_empty(command)?;
        let _turn = container.turn(Some(Instant::now() + TURN_WAIT)).await?;
        let record = container.record();
        if terminal {
            self.on_terminal(&record, command, streams).await
        } else {
            self.on_pipes(&record, command, streams).await
        }
    }

    async fn on_pipes(
        &self,
        record: &Record,
        command: &[String],
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        let (stdin, stdin_end) = match streams.stdin {
            Some(from) => {
                let (to, end) = pipes::input()?;
                (Some((from, to)), end)
            }
            None => (None, pipes::null()?),
        };
        let output = |wanted: Option<_>| match wanted {
            Some(to) => pipes::output().map(|(from, end)| (Some((from, to)), end)),
            None => pipes::null().map(|end| (None, end)),
        };
        let (stdout, stdout_end) = output(streams.stdout)?;
        let (stderr, stderr_end) = output(streams.stderr)?;
        let stdio = [stdin_end, stdout_end, stderr_end];
        let monitor = self.monitor(&record.id);
        let execution = monitor
            .exec(&record.runtime, command, stdio, OnHangup::Leave)
            .await?;
        let (ended, drain_end) = watch::channel(None);
        let pass = async |output: Option<_>| {
            if let Some((from, to)) = output {
                pump::output(from, Some(to), drain_end.clone()).await;
            }
        };
        let feed = async {
            if let Some((from, to)) = stdin {
                pump::input(from, to).await;
            }
        };
        let outputs =
            async { tokio::join!(exit_code(&execution, &ended), pass(stdout), pass(stderr)) };
        let (exit_code, (), ()) = besides(outputs, feed).await;
        exit_code
    }

    async fn on_terminal(
        &self,
        record: &Record,
        command: &[String],
        mut streams: Streams,
    ) -> Result<i32, ContainerError> {
        let size = match &mut streams.resize {
            Some(sizes) => timeout(FIRST_SIZE, sizes.recv()).await.ok().flatten(),
            None => None,
        };
        let process = self.terminal_process(record, command, size).await?;
        let monitor = self.monitor(&record.id);
        let (execution, master) = monitor
            .exec_on_terminal(&record.runtime, process.path())
            .await?;
        drop(process);
        let master = Master::new(master).map_err(io_error(
            "take over the terminal of",
            "the command".as_ref(),
        ))?;
        let (ended, drain_end) = watch::channel(None);
        let joined = join_terminal(master, streams, drain_end);
        let (exit_code, ()) = tokio::join!(exit_code(&execution, &ended), joined);
        exit_code
    }
}

/// Joins a client to a terminal until the client goes or nobody has the terminal open; then the
/// terminal is closed.
async fn join_terminal(master: Master, streams: Streams, drain_end: DrainEnd) {
    let feed = async {
        if let Some(from) = streams.stdin {
            pump::input(from, master.clone()).await;
        }
    };
    let size = async {
        if let Some(sizes) = streams.resize {
            follow_sizes(sizes, &master).await;
        }
    };
    let extra = async {
        tokio::join!(feed, size);
    };
    let shown = pump::output(master.clone(), streams.stdout, drain_end);
    besides(shown, extra).await;
}

async fn follow_sizes(mut sizes: mpsc::Receiver<TerminalSize>, master: &Master) {
    while let Some(TerminalSize { width, height }) = sizes.recv().await {
        if width > 0
            && height > 0
            && let Err(error) = master.resize(width, height)
        {
            tracing::debug!(%error, "terminal not resized");
        }
    }
}

/// Waits for the command's end, and tells those who pass on its output.
async fn exit_code(
    execution: &Execution,
    ended: &watch::Sender<Option<Instant>>,
) -> Result<i32, ContainerError> {
    let exited = execution.exited().await;
    ended.send_replace(Some(Instant::now() + DRAIN));
    Ok(exited?)
}
