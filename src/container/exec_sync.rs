//! ExecSync: run a command in a container and collect what it writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::exec::{DRAIN, Turn, not_empty};
use super::{ContainerError, Containers, Record, pipes};
use crate::runtime::{Execution, OnHangup};
use crate::sys::blocking;
use crate::sys::process_tree::kill_tree;

/// Most of each output that is returned (`runtime.v1.ExecSyncResponse`); what comes after it is
/// read and dropped, so that the command goes on.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How long a killed command may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// What a command wrote and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, at most 16 MiB.
    pub stderr: Vec<u8>,
    /// The exit code; 128 + signal when a signal ended it.
    pub exit_code: i32,
}

impl Containers {
    /// Runs a command in a running container, without standard input, and waits for its end. It is
    /// killed with its descendants after `limit`, and when the caller goes away.
    ///
    /// # Errors
    /// When there is no such container, it does not run, the command cannot be started, or it does
    /// not end in time. An exit code other than 0 is no error.
    pub async fn exec_sync(
        self: &Arc<Self>,
        prefix: &str,
        command: &[String],
        limit: Option<Duration>,
    ) -> Result<ExecOutput, ContainerError> {
        let container = self.running(prefix)?;
        let record = container.record();
        not_empty(command)?;
        // The limit is for all of it, as in containerd: also for the runtime that begins it.
        let deadline = limit.map(|limit| Instant::now() + limit);
        let turn = container.turn(deadline).await?;
        let (stdout, stdout_end) = pipes::output()?;
        let (stderr, stderr_end) = pipes::output()?;
        let (stdout, stderr) = (Collector::start(stdout), Collector::start(stderr));
        let stdio = [pipes::null()?, stdout_end, stderr_end];
        let monitor = self.monitor(&record.id);
        let begun = monitor.exec(&record.runtime, command, stdio, OnHangup::Kill);
        let execution = match (deadline, limit) {
            (Some(deadline), Some(limit)) => timeout_at(deadline, begun)
                .await
                .map_err(|_| timed_out(&record, command, limit))??,
            _ => begun.await?,
        };
        let running = Command {
            running: Some((execution, turn)),
        };
        let exit_code = match running.exited(&record, deadline).await? {
            Some(exit_code) => exit_code,
            None => return Err(timed_out(&record, command, limit.unwrap_or_default())),
        };
        let (stdout, stderr) = tokio::join!(stdout.finish(), stderr.finish());
        Ok(ExecOutput {
            stdout,
            stderr,
            exit_code,
        })
    }
}

/// A command that runs. Dropped before its end, by a caller that went away, it is killed with its
/// descendants.
#[derive(Debug)]
struct Command {
    running: Option<(Execution, Turn)>,
}

impl Command {
    /// Waits for the command's end; `None` when it had not come by the deadline, and the command
    /// was killed.
    async fn exited(
        mut self,
        record: &Record,
        deadline: Option<Instant>,
    ) -> Result<Option<i32>, ContainerError> {
        let Some((execution, _)) = &self.running else {
            return Ok(None);
        };
        let ended = match deadline {
            None => Ok(execution.exited().await),
            Some(deadline) => timeout_at(deadline, execution.exited()).await,
        };
        let Some((execution, _turn)) = self.running.take() else {
            return Ok(None);
        };
        if let Ok(ended) = ended {
            return Ok(Some(ended?));
        }
        let execution = blocking(move || {
            kill_tree(execution.pid);
            Ok::<_, ContainerError>(execution)
        })
        .await?;
        // Until it is gone: the kubelet runs the next probe right after this answer.
        if let Ok(Err(error)) = timeout(KILL_WAIT, execution.exited()).await {
            tracing::debug!(id = %record.id, %error, "monitor ended with the command");
        }
        Ok(None)
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if let Some((execution, turn)) = self.running.take() {
            // Nobody waits for it. The connection goes last, so that not both ends kill at once.
            drop(tokio::task::spawn_blocking(move || {
                kill_tree(execution.pid);
                drop((execution, turn));
            }));
        }
    }
}

fn timed_out(record: &Record, command: &[String], limit: Duration) -> ContainerError {
    ContainerError::ExecTimedOut {
        id: record.id.clone(),
        command: command.join(" ").chars().take(200).collect(),
        timeout: limit,
    }
}

/// Reads one output to its end, in a task that ends with this.
#[derive(Debug)]
struct Collector {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: Receiver) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; pipes::BYTES];
            while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_OUTPUT_BYTES - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
        });
        Self { kept, reader }
    }

    /// What was read, at the end of the output or shortly after now.
    async fn finish(mut self) -> Vec<u8> {
        // Whether the end came or something keeps the pipe open, what is there is what counts.
        let _end = timeout(DRAIN, &mut self.reader).await;
        std::mem::take(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
