//! Exec and attach once their streams exist, whatever protocol carries them: standard streams and
//! terminal sizes to the container, the outcome to the error stream.

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::request::StreamRequest;
use super::rooms::FarEnds;
use crate::container::{ContainerError, Input, Output, Streams, TerminalSize};

/// Most bytes of one terminal size as JSON.
const MAX_SIZE_MESSAGE: usize = 1024;

/// How many terminal sizes may wait to be applied.
const SIZES: usize = 4;

/// Which version of remotecommand was agreed on (`X-Stream-Protocol-Version`,
/// `Sec-WebSocket-Protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandProtocol {
    /// `channel.k8s.io`: the outcome is text, and only a failure has one.
    V1,
    /// `v2.channel.k8s.io`: streams are half-closed.
    V2,
    /// `v3.channel.k8s.io`: with a stream for terminal sizes.
    V3,
    /// `v4.channel.k8s.io`: the outcome is a `metav1.Status` with the exit code.
    V4,
    /// `v5.channel.k8s.io`: as v4; WebSocket can half-close a channel.
    V5,
}

impl CommandProtocol {
    /// All of them with their names, the best first.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::V5, "v5.channel.k8s.io"),
        (Self::V4, "v4.channel.k8s.io"),
        (Self::V3, "v3.channel.k8s.io"),
        (Self::V2, "v2.channel.k8s.io"),
        (Self::V1, "channel.k8s.io"),
    ];

    /// The one of this name; the oldest for a name that is none of theirs.
    pub fn named(name: &str) -> Self {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, known)| *known == name);
        found.map_or(Self::V1, |(protocol, _)| *protocol)
    }

    /// The client has a stream for terminal sizes.
    pub fn resizes(self) -> bool {
        self >= Self::V3
    }

    fn has_status(self) -> bool {
        self >= Self::V4
    }
}

/// A client's ends of the streams of a command or a container.
pub struct Channels {
    /// What the client types. Its end closes the process's standard input.
    pub stdin: Option<Input>,
    /// Takes standard output.
    pub stdout: Option<Output>,
    /// Takes standard error.
    pub stderr: Option<Output>,
    /// Takes the outcome.
    pub error: Output,
    /// The sizes of the client's terminal, as JSON.
    pub resize: Option<Input>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("resize", &self.resize.is_some())
            .finish_non_exhaustive()
    }
}

/// How a command or an attachment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command succeeded, or the container that was attached to has ended.
    Success,
    /// The command's exit code, which is not 0.
    ExitCode(i32),
    /// It did not come to an exit code: why.
    Failed(String),
}

/// Connects a client's ends to a command or a container and tells the client the outcome, after
/// the last byte of output. The future may be dropped when the client goes away.
pub async fn run(
    request: &StreamRequest,
    channels: Channels,
    protocol: CommandProtocol,
    rooms: &impl FarEnds,
) {
    let Channels {
        stdin,
        stdout,
        stderr,
        error,
        resize,
    } = channels;
    let (sizes, resize) = match resize {
        Some(input) => {
            let (sender, receiver) = mpsc::channel(SIZES);
            (Some((input, sender)), Some(receiver))
        }
        None => (None, None),
    };
    let work = carry_out(
        request,
        Streams {
            stdin,
            stdout,
            stderr,
            resize,
        },
        rooms,
    );
    let outcome = tokio::select! {
        outcome = work => outcome,
        never = pass_sizes(sizes) => match never {},
    };
    if let Outcome::Failed(reason) = &outcome {
        tracing::info!(?request, reason, "a stream's far end failed");
    }
    tell(outcome, error, protocol).await;
}

async fn carry_out(request: &StreamRequest, streams: Streams, rooms: &impl FarEnds) -> Outcome {
    match request {
        StreamRequest::Exec {
            container,
            command,
            terminal,
            ..
        } => match rooms.exec(container, command, *terminal, streams).await {
            Ok(0) => Outcome::Success,
            Ok(code) => Outcome::ExitCode(code),
            Err(error) => failed("error executing command in container", &error),
        },
        StreamRequest::Attach { container, .. } => match rooms.attach(container, streams).await {
            Ok(()) => Outcome::Success,
            Err(error) => failed("error attaching to container", &error),
        },
        StreamRequest::PortForward { .. } => {
            Outcome::Failed("port-forward is no command".to_owned())
        }
    }
}

fn failed(step: &str, error: &ContainerError) -> Outcome {
    Outcome::Failed(format!("{step}: {error}"))
}

/// Writes the outcome and ends the error stream. A client that is gone needs neither.
pub async fn tell(outcome: Outcome, mut error: Output, protocol: CommandProtocol) {
    let text = if protocol.has_status() {
        status(&outcome)
    } else {
        plain(&outcome).unwrap_or_default()
    };
    if error.write_all(text.as_bytes()).await.is_ok() {
        let _ = error.shutdown().await;
    }
}

/// A `metav1.Status`, from v4 on.
fn status(outcome: &Outcome) -> String {
    let mut status = json!({"metadata": {}, "status": "Failure"});
    match outcome {
        Outcome::Success => status["status"] = "Success".into(),
        Outcome::ExitCode(code) => {
            status["message"] = exit_message(*code).into();
            status["reason"] = "NonZeroExitCode".into();
            status["details"] =
                json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]});
        }
        Outcome::Failed(reason) => {
            status["message"] = internal_message(reason).into();
            status["reason"] = "InternalError".into();
            status["details"] = json!({"causes": [{"message": reason}]});
            status["code"] = 500.into();
        }
    }
    status.to_string()
}

/// What versions before v4 get: text, and nothing when all went well.
fn plain(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Success => None,
        Outcome::ExitCode(code) => Some(exit_message(*code)),
        Outcome::Failed(reason) => Some(internal_message(reason)),
    }
}

fn exit_message(code: i32) -> String {
    format!("command terminated with non-zero exit code: exit code {code}")
}

fn internal_message(reason: &str) -> String {
    format!("Internal error occurred: {reason}")
}

/// A size as clients write it.
#[derive(Debug, Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

/// Passes on the sizes that a client sends. Never ends: the work does.
async fn pass_sizes(
    sizes: Option<(Input, mpsc::Sender<TerminalSize>)>,
) -> std::convert::Infallible {
    if let Some((mut input, sender)) = sizes {
        // Sizes end with the client's stream or with the first that is none; the terminal stays
        // as it is then.
        if let Err(reason) = read_sizes(&mut input, &sender).await {
            tracing::debug!(reason, "terminal sizes are no longer read");
        }
    }
    std::future::pending().await
}

async fn read_sizes(
    input: &mut Input,
    sender: &mpsc::Sender<TerminalSize>,
) -> Result<(), &'static str> {
    let mut buffer = [0; MAX_SIZE_MESSAGE];
    let mut filled = 0;
    loop {
        let read = input
            .read(&mut buffer[filled..])
            .await
            .map_err(|_| "the client is gone")?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut messages =
            serde_json::Deserializer::from_slice(&buffer[..filled]).into_iter::<Size>();
        let mut done = 0;
        for size in &mut messages {
            match size {
                Ok(Size { width, height }) if width > 0 && height > 0 => {
                    let size = TerminalSize { width, height };
                    sender
                        .send(size)
                        .await
                        .map_err(|_| "the process has ended")?;
                }
                Ok(_) => {}
                Err(error) if error.is_eof() => break,
                Err(_) => return Err("the client sent something else than a size"),
            }
        }
        done += messages.byte_offset();
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if filled == buffer.len() {
            return Err("the client sent a size of too many bytes");
        }
    }
}
