//! Calls of the runtime's program that the daemon makes itself: kill, delete, update.
//!
//! `create`, `start` and `exec` are made by the monitor, which must be the parent of what they
//! leave behind.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Program, RuntimeError};

/// Longest part of the program's answer that is kept, in bytes; the rest is read and dropped, so
/// that a chatty runtime can neither block nor fill memory.
const MAX_OUTPUT_BYTES: usize = 16 << 10;

/// How long a call may take that only sends a signal or removes what is dead.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

impl Program {
    /// Sends `signal` to the container's init.
    ///
    /// Returns whether there was a process to send it to: a container that has ended is no error.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses for another reason.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<bool, RuntimeError> {
        match self
            .call(&["kill", id, &signal.to_string()], CALL_DEADLINE)
            .await
        {
            Ok(()) => Ok(true),
            Err(RuntimeError::Failed { stderr, .. }) if means_gone(&stderr) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what the runtime keeps of a container that has ended: its cgroups and state. Gone
    /// already is fine. With `force` a running container is killed first.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses for another reason.
    pub async fn delete(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        let arguments: &[&str] = if force {
            &["delete", "--force", id]
        } else {
            &["delete", id]
        };
        match self.call(arguments, CALL_DEADLINE).await {
            Err(RuntimeError::Failed { stderr, .. }) if means_gone(&stderr) => Ok(()),
            outcome => outcome,
        }
    }

    /// Sets the limits of a created or running container; what `limits` does not name stays.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses.
    pub async fn update(&self, id: &str, limits: &LinuxResources) -> Result<(), RuntimeError> {
        let arguments = ["update", "--resources", "-", id];
        let json = serde_json::to_vec(limits).map_err(|error| RuntimeError::Spawn {
            step: format!("{} update {id}", self.handler),
            source: error.into(),
        })?;
        self.call_with(&arguments, &json, CALL_DEADLINE).await
    }

    async fn call(&self, arguments: &[&str], deadline: Duration) -> Result<(), RuntimeError> {
        self.call_with(arguments, &[], deadline).await
    }

    async fn call_with(
        &self,
        arguments: &[&str],
        input: &[u8],
        deadline: Duration,
    ) -> Result<(), RuntimeError> {
        let mut command = Command::new(&self.path);
        command.args(self.global_arguments()).args(arguments);
        let step = format!("{} {}", self.handler, arguments.join(" "));
        let (status, stderr) = run(command, &step, input, deadline).await?;
        if status.success() {
            Ok(())
        } else {
            Err(RuntimeError::Failed {
                step,
                status: status.to_string(),
                stderr,
            })
        }
    }
}

/// Both runc and crun answer in words only.
fn means_gone(stderr: &str) -> bool {
    const WORDS: [&str; 5] = [
        "does not exist",
        "not running",
        "process already finished",
        "No such process",
        "No such file or directory",
    ];
    WORDS.iter().any(|words| stderr.contains(words))
}

async fn run(
    mut command: Command,
    step: &str,
    input: &[u8],
    deadline: Duration,
) -> Result<(ExitStatus, String), RuntimeError> {
    command
        .stdin(match input {
            [] => Stdio::null(),
            _ => Stdio::piped(),
        })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let io = |source| RuntimeError::Spawn {
        step: step.to_owned(),
        source,
    };
    let mut child = command.spawn().map_err(io)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let finish = async {
        let write = async {
            if let Some(mut pipe) = stdin {
                // A program that ends before it has read all says why by its status.
                let _broken = pipe.write_all(input).await;
            }
        };
        let read = async {
            match stderr {
                Some(pipe) => read_bounded(pipe).await,
                None => String::new(),
            }
        };
        let ((), text) = tokio::join!(write, read);
        child.wait().await.map(|status| (status, text))
    };
    match tokio::time::timeout(deadline, finish).await {
        Ok(outcome) => outcome.map_err(io),
        Err(_) => Err(RuntimeError::TimedOut {
            step: step.to_owned(),
            deadline,
        }),
    }
}

async fn read_bounded(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = MAX_OUTPUT_BYTES - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(script: &str) -> (tempfile::TempDir, Program) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runtime");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let root = directory.path().join("root");
        let program = Program {
            handler: "fake".into(),
            path,
            root,
            systemd_cgroup: false,
        };
        (directory, program)
    }

    #[tokio::test]
    async fn what_is_gone_already_is_no_error() {
        let (_directory, gone) = program("echo 'container does not exist' >&2; exit 1");
        assert!(!gone.kill("c", 15).await.unwrap());
        gone.delete("c", true).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_names_the_call_and_what_the_runtime_said() {
        let (_directory, refusing) = program("echo 'cgroup is on fire' >&2; exit 3");
        let error = refusing.kill("c1", 9).await.unwrap_err().to_string();
        for part in ["kill c1 9", "cgroup is on fire", "3"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_runtime_that_writes_without_end_fills_no_memory_and_one_that_hangs_is_ended() {
        let (_directory, chatty) = program("yes error | head -c 10000000 >&2; exit 1");
        let Err(RuntimeError::Failed { stderr, .. }) = chatty.delete("c", false).await else {
            panic!("expected a refusal");
        };
        assert!(stderr.len() <= MAX_OUTPUT_BYTES);
        let (_directory, hanging) = program("exec sleep 1000");
        let error = hanging
            .call(&["kill", "c", "9"], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, RuntimeError::TimedOut { .. }), "{error}");
    }
}
