//! Running one CNI plugin: finding its program, its environment, its input and output, and its
//! end, which comes by itself or at the deadline.

use std::{
    io::{self, ErrorKind},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    time::{Instant, sleep, timeout_at},
};

use super::error::{Command, MissingPlugin, PluginFailure, excerpt};
use crate::sys::calls;

/// The most a plugin may print. A result is some kilobytes.
const MAX_STDOUT: usize = 1 << 20;

/// How much of the end of a plugin's stderr is kept, for errors.
const STDERR_TAIL: usize = 4 << 10;

/// How much of a plugin's output an error shows.
const SHOWN_OUTPUT: usize = 512;

/// Between two tries to run a program that is being written (ETXTBSY), and how many there are:
/// five seconds in all, as libcni waits.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
const BUSY_TRIES: usize = 20;

/// One execution.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// The program.
    pub(super) path: &'a Path,
    /// The `CNI_*` variables; the rest is the daemon's own environment, and the mark of what it calls.
    pub(super) env: &'a [(&'static str, String)],
    /// The request document.
    pub(super) stdin: &'a [u8],
    /// When it must have ended.
    pub(super) deadline: Instant,
}

/// What a plugin that succeeded has printed.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    /// The end of its stderr.
    pub(super) stderr: String,
}

/// For whom a plugin is run; all empty in operations on a network as a whole.
#[derive(Debug, Default)]
pub(super) struct ForWhom<'a> {
    pub(super) sandbox_id: &'a str,
    pub(super) netns: &'a str,
    pub(super) interface: &'a str,
    pub(super) args: &'a [(String, String)],
}

/// The specification's variables; all of them are set in every call, so that none is inherited
/// from whoever started the daemon.
pub(super) fn variables(
    command: Command,
    dirs: &[PathBuf],
    whom: &ForWhom<'_>,
) -> [(&'static str, String); 6] {
    let pairs = whom.args.iter().map(|(k, v)| format!("{k}={v}"));
    let dirs = dirs.iter().map(|dir| dir.to_string_lossy());
    [
        ("CNI_COMMAND", command.as_str().to_owned()),
        ("CNI_CONTAINERID", whom.sandbox_id.to_owned()),
        ("CNI_NETNS", whom.netns.to_owned()),
        ("CNI_IFNAME", whom.interface.to_owned()),
        ("CNI_PATH", dirs.collect::<Vec<_>>().join(":")),
        ("CNI_ARGS", pairs.collect::<Vec<_>>().join(";")),
    ]
}

/// Finds a plugin's program, as libcni does: the first directory that has it.
pub(super) fn find(plugin: &str, dirs: &[PathBuf]) -> Result<PathBuf, MissingPlugin> {
    let mut problem = "is missing";
    for path in dirs.iter().map(|dir| dir.join(plugin)) {
        match path.metadata() {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                return Ok(path);
            }
            Ok(meta) if meta.is_file() => problem = "is not executable",
            _ => {}
        }
    }
    Err(MissingPlugin {
        plugin: plugin.to_owned(),
        problem,
        dirs: dirs.to_vec(),
    })
}

/// Runs a plugin to its end. `started` is told its process id.
pub(super) async fn run(
    call: &Call<'_>,
    started: impl FnOnce(u32),
) -> Result<Output, PluginFailure> {
    let begun = Instant::now();
    let mut child = spawn(call).await?;
    // A child has an id until it is waited for.
    let pid = child.id().unwrap_or_default();
    started(pid);
    let group = ProcessGroup::led_by(pid);
    let mut pipes = Pipes::of(&mut child, call.stdin);
    let status = match timeout_at(call.deadline, pipes.until_exit(&mut child)).await {
        Ok(ended) => ended?,
        Err(_) => {
            drop(group);
            let stderr = pipes.stderr_text();
            return Err(PluginFailure::Deadline {
                path: call.path.to_owned(),
                pid,
                after: begun.elapsed(),
                stderr,
            });
        }
    };
    group.ended();
    pipes.drain()?;
    judge(status, pipes)
}

async fn spawn(call: &Call<'_>) -> Result<Child, PluginFailure> {
    let mut command = tokio::process::Command::new(call.path);
    command
        .envs(call.env.iter().map(|(key, value)| (key, value)))
        .envs(calls::mark())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                sleep(BUSY_PAUSE).await;
            }
            other => {
                return other.map_err(|source| PluginFailure::Spawn {
                    path: call.path.to_owned(),
                    source,
                });
            }
        }
    }
}

/// What a plugin's end and output mean.
fn judge(status: ExitStatus, pipes: Pipes<'_>) -> Result<Output, PluginFailure> {
    let stderr = pipes.stderr_text();
    if status.success() {
        return Ok(Output {
            stdout: pipes.output,
            stderr,
        });
    }
    match serde_json::from_slice::<ErrorDocument>(&pipes.output) {
        Ok(ErrorDocument { code, msg, details }) => Err(PluginFailure::Reported {
            code,
            msg: excerpt(msg),
            details: excerpt(details.unwrap_or_default()),
            stderr,
        }),
        Err(_) => Err(PluginFailure::Ended {
            status,
            stdout: shown(&pipes.output),
            stderr,
        }),
    }
}

/// The specification's error document. Without a message it is none.
#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    code: u64,
    msg: String,
    #[serde(default)]
    details: Option<String>,
}

/// The beginning of an output, as an error shows it.
pub(super) fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(&output[..output.len().min(SHOWN_OUTPUT)]);
    let mut text = text.trim().to_owned();
    if output.len() > SHOWN_OUTPUT {
        text.push_str(&format!(" … ({} bytes in all)", output.len()));
    }
    text
}

/// A plugin's process group, killed when dropped: plugins are often scripts with children.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn led_by(pid: u32) -> Self {
        // Group 0 would be our own.
        Self(
            i32::try_from(pid)
                .ok()
                .filter(|pid| *pid > 1)
                .map(Pid::from_raw),
        )
    }

    /// The leader was waited for. From here its number may be another's, so nothing is killed;
    /// children that it has left behind on purpose live on.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself just now.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Both directions of talk with a plugin. A pipe that is at its end is `None`.
struct Pipes<'a> {
    stdin: Option<ChildStdin>,
    request: &'a [u8],
    stdout: Option<ChildStdout>,
    output: Vec<u8>,
    stderr: Option<ChildStderr>,
    tail: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn of(child: &mut Child, request: &'a [u8]) -> Self {
        Self {
            stdin: child.stdin.take(),
            request,
            stdout: child.stdout.take(),
            output: Vec::new(),
            stderr: child.stderr.take(),
            tail: Vec::new(),
        }
    }

    /// Feeds and reads the plugin until it ends. That its output is at its end is not waited
    /// for: a child of it may hold the pipe for as long as it lives.
    async fn until_exit(&mut self, child: &mut Child) -> Result<ExitStatus, PluginFailure> {
        let mut out = [0; 8 << 10];
        let mut err = [0; 1 << 10];
        loop {
            let wrote = async {
                match &mut self.stdin {
                    Some(stdin) => stdin.write(self.request).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = child.wait() => {
                    return status.map_err(|source| PluginFailure::Io { step: "wait for it", source });
                }
                count = wrote => {
                    // A plugin need not read its input; what it lacks then, it says itself.
                    self.request = &self.request[count.as_ref().copied().unwrap_or(0)..];
                    if count.is_err() || self.request.is_empty() {
                        self.stdin = None;
                    }
                }
                count = read(&mut self.stdout, &mut out) => match count {
                    Ok(1..) => self.keep_output(&out[..count.unwrap_or(0)])?,
                    _ => self.stdout = None,
                },
                count = read(&mut self.stderr, &mut err) => match count {
                    Ok(1..) => self.keep_tail(&err[..count.unwrap_or(0)]),
                    _ => self.stderr = None,
                },
            }
        }
    }

    /// Takes what the plugin left in the pipes when it ended. The system call is made directly:
    /// the runtime may not have heard yet that there is something to read.
    fn drain(&mut self) -> Result<(), PluginFailure> {
        let mut chunk = [0; 8 << 10];
        if let Some(stdout) = self.stdout.take() {
            while let Some(count) = read_now(&stdout, &mut chunk)? {
                self.keep_output(&chunk[..count])?;
            }
        }
        if let Some(stderr) = self.stderr.take() {
            // A child that goes on writing must not keep us here.
            let mut left: usize = 64 << 10;
            while let Some(count) = read_now(&stderr, &mut chunk)?.filter(|_| left > 0) {
                left = left.saturating_sub(count);
                self.keep_tail(&chunk[..count]);
            }
        }
        Ok(())
    }

    fn keep_output(&mut self, chunk: &[u8]) -> Result<(), PluginFailure> {
        if self.output.len() + chunk.len() > MAX_STDOUT {
            return Err(PluginFailure::TooMuchOutput { limit: MAX_STDOUT });
        }
        self.output.extend_from_slice(chunk);
        Ok(())
    }

    fn keep_tail(&mut self, chunk: &[u8]) {
        self.tail.extend_from_slice(chunk);
        let surplus = self.tail.len().saturating_sub(STDERR_TAIL);
        self.tail.drain(..surplus);
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim().to_owned()
    }
}

async fn read<R: tokio::io::AsyncRead + Unpin>(
    pipe: &mut Option<R>,
    chunk: &mut [u8],
) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(chunk).await,
        None => std::future::pending().await,
    }
}

/// Reads what is there; `None` is nothing, for now or for ever.
fn read_now(pipe: &impl AsFd, chunk: &mut [u8]) -> Result<Option<usize>, PluginFailure> {
    loop {
        match nix::unistd::read(pipe.as_fd(), chunk) {
            Ok(0) | Err(Errno::EAGAIN) => return Ok(None),
            Ok(count) => return Ok(Some(count)),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                let source = io::Error::from(errno);
                return Err(PluginFailure::Io {
                    step: "read its output",
                    source,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
