//! A further process in a container: begun by its monitor, and followed to its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use conmon::{Exec, List, Reply, Request};

use super::connection::Connection;
use super::monitor::{Monitor, next, unexpected, within_call};
use super::{Program, RuntimeError};

/// The step of an error, where it is not the runtime's own.
const STEP: &str = "run the command";

/// What becomes of the process when its [`Execution`] is dropped before its end, or the daemon
/// ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHangup {
    /// The monitor kills it, and what it has started.
    Kill,
    /// It goes on, as far as it can without its streams.
    Leave,
}

/// A further process that runs in a container.
#[derive(Debug)]
pub struct Execution {
    /// The process, in the daemon's PID namespace.
    pub pid: i32,
    connection: Connection,
}

impl Monitor {
    /// Runs a further process in the container by its runtime, with these ends of pipes or files
    /// as its standard input, output and error.
    ///
    /// # Errors
    /// When the runtime refuses; what it said is in the message and on the process's stderr. When
    /// it does not end in time the monitor kills it.
    pub async fn exec(
        &self,
        runtime: &Program,
        argv: &[String],
        stdio: [OwnedFd; 3],
        on_hangup: OnHangup,
    ) -> Result<Execution, RuntimeError> {
        let strings: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
        let exec = Exec {
            exec_args: List::EMPTY,
            argv: List::new(&strings),
            terminal: false,
            kill_on_hangup: on_hangup == OnHangup::Kill,
        };
        let connection = self.begin(exec, &stdio.each_ref().map(AsFd::as_fd)).await?;
        // Whoever reads the other ends is to see the process's end.
        drop(stdio);
        match within_call(runtime, "exec", next(&connection))
            .await?
            .reply()?
        {
            Reply::ExecStarted { pid } => Ok(Execution { pid, connection }),
            other => Err(unexpected(STEP, other)),
        }
    }

    /// Runs a further process in the container on a pseudo terminal of its own, as `process` says
    /// (a file with the OCI spec's process), and returns the terminal's master. Closing that hangs
    /// the process up.
    ///
    /// # Errors
    /// When the runtime refuses; what it said is in the message.
    pub async fn exec_on_terminal(
        &self,
        runtime: &Program,
        process: &Path,
    ) -> Result<(Execution, OwnedFd), RuntimeError> {
        use std::os::unix::ffi::OsStrExt;
        let arguments: [&[u8]; 2] = [b"--process", process.as_os_str().as_bytes()];
        let exec = Exec {
            exec_args: List::new(&arguments),
            argv: List::EMPTY,
            terminal: true,
            kill_on_hangup: false,
        };
        let connection = self.begin(exec, &[]).await?;
        let answer = within_call(runtime, "exec", connection.receive_descriptor()).await?;
        let (answer, master) = answer.ok_or(RuntimeError::MonitorGone)?;
        match (answer.reply()?, master) {
            (Reply::ExecStarted { pid }, Some(master)) => {
                Ok((Execution { pid, connection }, master))
            }
            (other, _) => Err(unexpected(STEP, other)),
        }
    }

    async fn begin(
        &self,
        exec: Exec<'_>,
        stdio: &[BorrowedFd<'_>],
    ) -> Result<Connection, RuntimeError> {
        let connection = self.connect()?;
        connection.send(&Request::Exec(exec), stdio).await?;
        Ok(connection)
    }
}

impl Execution {
    /// Waits for the process's end and returns its exit code.
    ///
    /// # Errors
    /// When the container or its monitor ends before the process does.
    pub async fn exited(&self) -> Result<i32, RuntimeError> {
        match next(&self.connection).await?.reply()? {
            Reply::ExecExited { exit_code, .. } => Ok(exit_code),
            Reply::Status(_) => Err(RuntimeError::ContainerEnded),
            other => Err(unexpected("wait for the command", other)),
        }
    }
}
