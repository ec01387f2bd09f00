//! Credential helpers: `docker-credential-NAME get`, docker's protocol.
//!
//! The registry goes to the program's input, `{"Username":…,"Secret":…}` comes from its output. It
//! runs with the daemon's environment, for helpers of clouds are configured there, without what the
//! service manager has put in for the daemon alone.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Credential;
use crate::image::error::ImageError;

/// How long a helper may take: some ask a service of their cloud.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer; a token has some kilobytes.
const MAX_ANSWER: u64 = 256 << 10;
/// How much of an error is shown.
const MAX_WORDS: usize = 200;
/// What helpers say for "I know of none" (docker-credential-helpers, credentials/error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// A user name that says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";
/// How often a program is tried that is being written (ETXTBSY): another thread's child may hold
/// its file open for a moment.
const BUSY_TRIES: u32 = 20;

#[derive(Deserialize)]
struct Answer {
    #[serde(default, rename = "Username")]
    username: String,
    #[serde(default, rename = "Secret")]
    secret: String,
}

/// What a helper is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The helper's name, what follows `docker-credential-`.
    pub name: &'a str,
    /// The registry.
    pub server: &'a str,
    /// The file that names the helper, for the error.
    pub origin: &'a str,
    /// `PATH` to look for it, if not the daemon's own.
    pub path: Option<&'a OsStr>,
}

impl Question<'_> {
    /// Asks, and waits at most `limit`; `None` when the helper knows of no credential.
    pub async fn ask(&self, limit: Duration) -> Result<Option<Credential>, ImageError> {
        // it is looked for in PATH, and nowhere else
        if self.name.is_empty() || self.name.contains('/') {
            return Err(self.failed("its name is not that of a program in PATH"));
        }
        let mut child = self.spawn().await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.failed("there is no such program in PATH"),
            _ => self.failed(format!("cannot be started: {error}")),
        })?;
        let group = child.id();
        let Ok(talked) = tokio::time::timeout(limit, talk(&mut child, self.server)).await else {
            // the leader was not waited for, so the number is still its group's
            if let Some(group) = group.and_then(|pid| i32::try_from(pid).ok()) {
                let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            return Err(self.failed(format!("did not end within {limit:?}")));
        };
        let (succeeded, output) = talked.map_err(|error| self.failed(error.to_string()))?;
        if output.len() as u64 > MAX_ANSWER {
            return Err(self.failed(format!("its answer is larger than {MAX_ANSWER} bytes")));
        }
        if succeeded {
            return self.read(&output);
        }
        let words = String::from_utf8_lossy(&output);
        if words.contains(NOT_FOUND) {
            return Ok(None);
        }
        Err(self.failed(format!("failed: {}", shown(&words))))
    }

    fn read(&self, output: &[u8]) -> Result<Option<Credential>, ImageError> {
        // serde would quote what it cannot read, and that may be a secret
        let answer: Answer = serde_json::from_slice(output)
            .map_err(|_| self.failed("its answer is not JSON with Username and Secret"))?;
        let (username, secret) = (answer.username, answer.secret);
        Ok(match (username.as_str(), secret.is_empty()) {
            ("", true) => None,
            (TOKEN_USER, _) => Some(Credential::IdentityToken(secret)),
            _ => Some(Credential::Basic {
                username,
                password: secret,
            }),
        })
    }

    fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    fn failed(&self, reason: impl Into<String>) -> ImageError {
        ImageError::CredentialHelper {
            program: self.program(),
            origin: self.origin.to_owned(),
            registry: self.server.to_owned(),
            reason: reason.into(),
        }
    }

    async fn spawn(&self) -> std::io::Result<Child> {
        let mut command = Command::new(self.program());
        command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // by the protocol errors stand in the output
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let ours = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID"];
        let sockets = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
        for name in ours.iter().chain(&sockets) {
            command.env_remove(name);
        }
        if let Some(path) = self.path {
            // exec(3) takes the child's PATH
            command.env("PATH", path);
        }
        let mut tries = 0;
        loop {
            match command.spawn() {
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other,
            }
        }
    }
}

/// Whether it succeeded, and at most one byte more than the bound of what it said.
async fn talk(child: &mut Child, server: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let ask = async {
        if let Some(mut input) = input {
            // one that does not read its input has its answer ready
            let _ = input.write_all(server.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(ask, read_bounded(output));
    let output = output?;
    Ok((child.wait().await?.success(), output))
}

async fn read_bounded(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_ANSWER + 1).read_to_end(&mut output).await?;
    }
    Ok(output)
}

fn shown(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = words.chars().filter(|c| !c.is_control()).collect();
    if let Some((end, _)) = shown.char_indices().nth(MAX_WORDS) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}
