//! What happens on a SPDY connection after the handshake: streams of a command are collected until
//! it can begin, streams of port-forward are paired.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time;

use super::pairs;
use super::remote_command::{self, Channels, CommandProtocol, Outcome};
use super::request::{StreamRequest, WantedStreams};
use super::rooms::FarEnds;
use super::spdy::{NewStream, Session};
use crate::container::{Input, Output};

/// Most streams that nothing is done with.
const MAX_OTHERS: usize = 8;

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without anything sent or received (`stream_idle_timeout`).
    pub idle: Duration,
    /// To open the streams that belong together.
    pub creation: Duration,
}

/// Serves a connection to which the handshake has been answered, until it is closed. `protocol` is
/// that of exec and attach; port-forward has only one. Dropping the future closes the connection.
pub async fn over_spdy<Io>(
    io: Io,
    protocol: CommandProtocol,
    request: StreamRequest,
    rooms: &impl FarEnds,
    limits: Limits,
) where
    Io: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut session = Session::start(io, limits.idle);
    match &request {
        StreamRequest::PortForward { sandbox, .. } => {
            pairs::serve(&mut session, sandbox, rooms, limits.creation).await;
        }
        StreamRequest::Exec {
            terminal, wanted, ..
        }
        | StreamRequest::Attach {
            terminal, wanted, ..
        } => {
            let expected = Expected {
                wanted: *wanted,
                resize: *terminal && protocol.resizes(),
            };
            command(
                &mut session,
                &request,
                expected,
                protocol,
                rooms,
                limits.creation,
            )
            .await;
        }
    }
    if let Err(error) = session.close().await {
        tracing::info!(?request, %error, "a stream's connection ended early");
    }
}

async fn command<Io: AsyncRead + AsyncWrite + Send + 'static>(
    session: &mut Session<Io>,
    request: &StreamRequest,
    expected: Expected,
    protocol: CommandProtocol,
    rooms: &impl FarEnds,
    creation: Duration,
) {
    let mut collected = Collected::default();
    match time::timeout(creation, collected.fill(session, expected)).await {
        Ok(Some(())) => {}
        // The client is gone.
        Ok(None) => return,
        Err(_) => {
            tracing::info!(
                ?request,
                ?expected,
                "timed out waiting for client to create streams"
            );
            if let Some(error) = collected.error {
                let reason = "timed out waiting for client to create streams".to_owned();
                let told = remote_command::tell(Outcome::Failed(reason), error, protocol);
                let _ = time::timeout(creation, told).await;
            }
            return;
        }
    }
    let Collected {
        error: Some(error),
        stdin,
        stdout,
        stderr,
        resize,
        others: _others,
    } = collected
    else {
        return;
    };
    let (stdin, stdin_back) = stdin.unzip();
    // Kept, because dropping one direction of a stream resets it.
    let (resize, _resize_back) = resize.unzip();
    let mut stdin_back = stdin_back;
    // Later clients take the end of this direction for the end of the session, and stop sending.
    if protocol == CommandProtocol::V1
        && let Some(back) = &mut stdin_back
        && back.shutdown().await.is_err()
    {
        return;
    }
    let channels = Channels {
        stdin,
        stdout,
        stderr,
        error,
        resize,
    };
    let work = pin!(remote_command::run(request, channels, protocol, rooms));
    tokio::select! {
        () = work => {}
        // The connection has ended: dropping the work tells the far end.
        () = session.refuse_all() => {}
    }
}

/// The streams that a client must open before a command begins; the error stream always.
#[derive(Debug, Clone, Copy)]
struct Expected {
    wanted: WantedStreams,
    resize: bool,
}

impl Expected {
    /// The kind of a stream by its `streamtype`, when it is one of those that are expected.
    fn kind(self, name: &str) -> Option<Kind> {
        match name {
            "error" => Some(Kind::Error),
            "stdin" if self.wanted.stdin => Some(Kind::Stdin),
            "stdout" if self.wanted.stdout => Some(Kind::Stdout),
            "stderr" if self.wanted.stderr => Some(Kind::Stderr),
            "resize" if self.resize => Some(Kind::Resize),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

/// Those that the client has opened: of each what is used, and the directions that are not.
#[derive(Default)]
struct Collected {
    error: Option<Output>,
    stdin: Option<(Input, Output)>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<(Input, Output)>,
    /// Streams that nothing is done with.
    others: Vec<Output>,
}

impl Collected {
    /// Takes the client's streams until all are there. `None` when the connection ended before.
    /// May be cancelled; what was taken stays.
    async fn fill<Io: AsyncRead + AsyncWrite + Send + 'static>(
        &mut self,
        session: &mut Session<Io>,
        expected: Expected,
    ) -> Option<()> {
        while !self.complete(expected) {
            let stream = session.next().await?;
            self.add(stream, expected).await?;
        }
        Some(())
    }

    fn complete(&self, expected: Expected) -> bool {
        let Expected { wanted, resize } = expected;
        self.error.is_some()
            && (self.stdin.is_some() || !wanted.stdin)
            && (self.stdout.is_some() || !wanted.stdout)
            && (self.stderr.is_some() || !wanted.stderr)
            && (self.resize.is_some() || !resize)
    }

    async fn add<Io: AsyncRead + AsyncWrite + Send + 'static>(
        &mut self,
        stream: NewStream<'_, Io>,
        expected: Expected,
    ) -> Option<()> {
        let kind = expected.kind(stream.headers().get("streamtype").unwrap_or_default());
        let is_taken = match kind {
            Some(Kind::Error) => self.error.is_some(),
            Some(Kind::Stdin) => self.stdin.is_some(),
            Some(Kind::Stdout) => self.stdout.is_some(),
            Some(Kind::Stderr) => self.stderr.is_some(),
            Some(Kind::Resize) => self.resize.is_some(),
            None => self.others.len() >= MAX_OTHERS,
        };
        if is_taken {
            tracing::debug!(id = stream.id(), ?kind, "a client opened a stream too many");
            return stream.refuse().await.ok();
        }
        let (input, output) = stream.accept().await.ok()?;
        let output: Output = Box::new(output);
        match kind {
            Some(Kind::Error) => self.error = Some(output),
            Some(Kind::Stdout) => self.stdout = Some(output),
            Some(Kind::Stderr) => self.stderr = Some(output),
            Some(Kind::Stdin) => self.stdin = Some((Box::new(input), output)),
            Some(Kind::Resize) => self.resize = Some((Box::new(input), output)),
            None => self.others.push(output),
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "over_spdy_tests.rs"]
mod tests;
