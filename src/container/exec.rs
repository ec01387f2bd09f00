//! ExecSync: run a command in a container and collect what it writes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::stat::Mode;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::sources::io_error;
use super::{ContainerError, Containers, Phase, Record};
use crate::runtime::Execution;
use crate::sys::blocking;
use crate::sys::process_tree::kill_tree;

/// Most of each output that is returned (`runtime.v1.ExecSyncResponse`); what comes after it is
/// read and dropped, so that the command goes on.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// How long output is still read after the command has ended, when something that it left behind
/// keeps the pipe open.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a killed command may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Bytes of one read.
const CHUNK_BYTES: usize = 64 << 10;

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
        let record = self.find(prefix)?.record();
        let Phase::Running { .. } = record.phase else {
            return Err(ContainerError::NotRunning {
                id: record.id.clone(),
            });
        };
        if command.is_empty() {
            return Err(ContainerError::Invalid {
                field: "cmd".to_owned(),
                problem: "no command is given".to_owned(),
            });
        }
        let stdin =
            std::fs::File::open("/dev/null").map_err(io_error("open", "/dev/null".as_ref()))?;
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let (stdout, stderr) = (Collector::start(stdout), Collector::start(stderr));
        let stdio = [stdin.into(), stdout_end, stderr_end];
        // The limit is for all of it, as in containerd: also for the runtime that begins it.
        let deadline = limit.map(|limit| Instant::now() + limit);
        let monitor = self.monitor(&record.id);
        let begun = monitor.exec(command, stdio);
        let execution = match (deadline, limit) {
            (Some(deadline), Some(limit)) => timeout_at(deadline, begun)
                .await
                .map_err(|_| timed_out(&record, command, limit))??,
            _ => begun.await?,
        };
        let running = Command {
            execution: Some(execution),
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
    execution: Option<Execution>,
}

impl Command {
    /// Waits for the command's end; `None` when it had not come by the deadline, and the command
    /// was killed.
    async fn exited(
        mut self,
        record: &Record,
        deadline: Option<Instant>,
    ) -> Result<Option<i32>, ContainerError> {
        let Some(execution) = &self.execution else {
            return Ok(None);
        };
        let ended = match deadline {
            None => Ok(execution.exited().await),
            Some(deadline) => timeout_at(deadline, execution.exited()).await,
        };
        let Some(execution) = self.execution.take() else {
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
        if let Some(execution) = self.execution.take() {
            // Nobody waits for it. The connection goes last: at its end the monitor kills the
            // command alone, and its children could not be found any more.
            drop(tokio::task::spawn_blocking(move || {
                kill_tree(execution.pid);
                drop(execution);
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

/// A pipe: the daemon's end to read from, the command's to write to.
fn output_pipe() -> Result<(Receiver, OwnedFd), ContainerError> {
    let pipe = || {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // As the monitor's: programs open them by name, in user namespaces too.
        nix::sys::stat::fchmod(&write, Mode::from_bits_truncate(0o666))?;
        io::Result::Ok((Receiver::from_owned_fd(read)?, write))
    };
    pipe().map_err(io_error(
        "make a pipe for the output of",
        "the command".as_ref(),
    ))
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
            let mut buffer = vec![0; CHUNK_BYTES];
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
