//! Calls of the runtime's program that the daemon makes itself: kill, delete, update.
//!
//! `create`, `start` and `exec` are made by the monitor, which must be the parent of what they
//! leave behind.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Program, RuntimeError};
use crate::sys::calls;
use crate::sys::process_tree::kill_tree;

/// Longest part of the program's answer that is kept, in bytes; the rest is read and dropped, so
/// that a chatty runtime can neither block nor fill memory.
const MAX_OUTPUT_BYTES: usize = 16 << 10;

impl Program {
    /// Sends `signal` to the container's init.
    ///
    /// Returns whether there was a process to send it to: a container that has ended is no error.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end within `patience` or the time that each call
    /// has, or refuses for another reason.
    pub async fn kill(
        &self,
        id: &str,
        signal: i32,
        patience: Duration,
    ) -> Result<bool, RuntimeError> {
        let deadline = patience.min(self.call_timeout);
        match self.run(&["kill", id, &signal.to_string()], deadline).await {
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
        match self.run(arguments, self.call_timeout).await {
            Err(RuntimeError::Failed { stderr, .. }) if means_gone(&stderr) => {}
            outcome => outcome?,
        }
        self.clear_deleted(id)
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
        self.run_with(&arguments, &json, self.call_timeout).await
    }

    /// Freezes all processes of a running container.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses.
    pub async fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        self.run(&["pause", id], self.call_timeout).await
    }

    /// Lets a frozen container go on.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses.
    pub async fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        self.run(&["resume", id], self.call_timeout).await
    }

    /// Whether the container is frozen, as far as the runtime says; in doubt it is.
    pub async fn paused(&self, id: &str) -> bool {
        let mut command = Command::new(&self.path);
        command.args(self.global_arguments()).args(["state", id]);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.envs(calls::mark()).process_group(0);
        let output = tokio::time::timeout(self.call_timeout, command.kill_on_drop(true).output());
        match output.await {
            Ok(Ok(output)) if output.status.success() => {
                let state: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
                state.is_none_or(|state| state["status"] == "paused")
            }
            // Not known to the runtime any more.
            Ok(Ok(_)) => false,
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Has criu write the processes' images into the directory `images` and its log into `work`.
    /// The container stays as it is, running or frozen.
    ///
    /// # Errors
    /// When the runtime cannot be run, does not end in time or refuses.
    pub async fn checkpoint(
        &self,
        id: &str,
        images: &Path,
        work: &Path,
        deadline: Duration,
    ) -> Result<(), RuntimeError> {
        let (images, work) = (images.to_string_lossy(), work.to_string_lossy());
        let arguments = [
            "checkpoint",
            "--leave-running",
            "--image-path",
            &images,
            "--work-path",
            &work,
            id,
        ];
        self.run(&arguments, deadline).await
    }

    async fn run(&self, arguments: &[&str], deadline: Duration) -> Result<(), RuntimeError> {
        self.run_with(arguments, &[], deadline).await
    }

    async fn run_with(
        &self,
        arguments: &[&str],
        input: &[u8],
        deadline: Duration,
    ) -> Result<(), RuntimeError> {
        let mut command = Command::new(&self.path);
        command.args(self.global_arguments()).args(arguments);
        command.process_group(0);
        // criu works inside of processes that go on: killed there, it leaves them broken.
        if arguments.first() != Some(&"checkpoint") {
            command.envs(calls::mark());
        }
        let step = format!("{} {}", self.path.display(), arguments.join(" "));
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
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    // After the child, so that it goes before it.
    let tree = Tree(pid);
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
        Ok(outcome) => {
            tree.ended();
            outcome.map_err(io)
        }
        Err(_) => {
            let process = pid.map_or_else(String::new, |pid| {
                format!(" (process {pid}, which was killed)")
            });
            Err(RuntimeError::TimedOut {
                step: format!("{step}{process}"),
                deadline,
            })
        }
    }
}

/// A running program, killed when this is dropped with what it has started: a runtime may be a
/// script.
struct Tree(Option<i32>);

impl Tree {
    /// It has been waited for: its pid may be another's.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            kill_tree(pid);
        }
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

    const LONG: Duration = Duration::from_secs(60);

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
            call_timeout: Duration::from_secs(60),
        };
        (directory, program)
    }

    #[tokio::test]
    async fn what_is_gone_already_is_no_error() {
        let (_directory, gone) = program("echo 'container does not exist' >&2; exit 1");
        assert!(!gone.kill("c", 15, LONG).await.unwrap());
        gone.delete("c", true).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_names_the_call_and_what_the_runtime_said() {
        let (_directory, refusing) = program("echo 'cgroup is on fire' >&2; exit 3");
        let error = refusing.kill("c1", 9, LONG).await.unwrap_err().to_string();
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
            .run(&["kill", "c", "9"], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, RuntimeError::TimedOut { .. }), "{error}");
        let told = error.to_string();
        for part in ["/runtime kill c 9", "(process "] {
            assert!(told.contains(part), "{told}");
        }
    }
}
