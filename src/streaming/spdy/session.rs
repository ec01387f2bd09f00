//! A connection's life: its frames are read by a task of its own, streams that the client opens are
//! handed out, and the end is said in good order.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tokio_util::task::AbortOnDropHandle;

use super::error::SessionError;
use super::frame::{self, GoAwayStatus, ResetStatus};
use super::headers::{EmptyBlocks, Headers};
use super::incoming::{ARRIVALS, Arrival, Incoming};
use super::stream::{self, Shared, StreamReader, StreamWriter};
use super::wire::Wire;
use crate::streaming::inflow::Inflow;

/// How long the client may take to close the connection after our last frame. Closing before it has
/// read everything could cost it the end of the output: a TCP connection on which something arrives
/// after it was closed is reset.
const LINGER: Duration = Duration::from_secs(30);

/// A connection from its first frame on. Dropping it closes the connection without a word.
#[derive(Debug)]
pub struct Session<Io: AsyncRead + AsyncWrite> {
    shared: Arc<Shared<Io>>,
    arrivals: mpsc::Receiver<Arrival>,
    replies: EmptyBlocks,
    last_stream: u32,
    reading: AbortOnDropHandle<Result<(), SessionError>>,
}

/// A stream that the client opened and that waits to be accepted or refused.
#[derive(Debug)]
pub struct NewStream<'a, Io: AsyncRead + AsyncWrite> {
    session: &'a mut Session<Io>,
    arrival: Arrival,
}

impl<Io: AsyncRead + AsyncWrite + Send + 'static> Session<Io> {
    /// Begins to read. `idle` is how long nothing may be sent or received.
    pub fn start(io: Io, idle: Duration) -> Self {
        let (reading, writing) = tokio::io::split(io);
        let shared = Arc::new(Shared::new(Wire::new(writing)));
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let incoming = Incoming::new(reading, Arc::clone(&shared), sender);
        let reading = tokio::spawn(drive(incoming, Arc::clone(&shared), idle));
        Self {
            shared,
            arrivals,
            replies: EmptyBlocks::default(),
            last_stream: 0,
            reading: AbortOnDropHandle::new(reading),
        }
    }

    /// What the client has sent and nobody has taken yet.
    pub fn inflow(&self) -> Arc<Inflow> {
        Arc::clone(self.shared.inflow())
    }

    /// The next stream that the client opens; `None` when the connection has ended. May be
    /// cancelled.
    pub async fn next(&mut self) -> Option<NewStream<'_, Io>> {
        let arrival = self.arrivals.recv().await?;
        self.last_stream = arrival.id;
        Some(NewStream {
            session: self,
            arrival,
        })
    }

    /// Refuses whatever the client opens, until the connection has ended.
    pub async fn refuse_all(&mut self) {
        while let Some(stream) = self.next().await {
            if stream.refuse().await.is_err() {
                return;
            }
        }
    }

    /// Ends the connection: what is put into streams is sent, unfinished streams are reset, then
    /// the client is told and may close.
    ///
    /// # Errors
    /// How the connection ended before, when the client did not just close it.
    pub async fn close(self) -> Result<(), SessionError> {
        let Self {
            shared,
            arrivals,
            last_stream,
            reading,
            ..
        } = self;
        drop(arrivals);
        let mut reading = pin!(reading);
        let mut ended = None;
        if reading.is_finished() {
            // It is never aborted before, and panics abort the program.
            ended = Some(reading.as_mut().await.unwrap_or(Ok(())));
        }
        let status = match &ended {
            Some(Err(error)) if error.is_protocol() => GoAwayStatus::ProtocolError,
            _ => GoAwayStatus::Ok,
        };
        shared.reset_unfinished();
        shared.wire.close_with(&frame::go_away(last_stream, status));
        let farewell = async {
            // An error here means that the client is gone, which is what this waits for.
            if poll_fn(|cx| shared.wire.poll_shutdown(cx)).await.is_ok() && ended.is_none() {
                let _ = reading.await;
            }
        };
        let _ = time::timeout(LINGER, farewell).await;
        ended.unwrap_or(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Send + 'static> NewStream<'_, Io> {
    /// The id that the client gave it.
    pub fn id(&self) -> u32 {
        self.arrival.id
    }

    /// What the client says about it.
    pub fn headers(&self) -> &Headers {
        &self.arrival.headers
    }

    /// Takes the stream: the client is told, and data may go both ways.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn accept(self) -> io::Result<(StreamReader<Io>, StreamWriter<Io>)> {
        let Self { session, arrival } = self;
        if !arrival.unidirectional {
            poll_fn(|cx| {
                let reply = frame::syn_reply(arrival.id, session.replies.block());
                ready!(session.shared.wire.poll_control(cx, &reply))?;
                session.replies.sent();
                std::task::Poll::Ready(io::Result::Ok(()))
            })
            .await?;
        }
        Ok(stream::pair(&session.shared, arrival.id, arrival.stream))
    }

    /// Does not take the stream.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn refuse(self) -> io::Result<()> {
        let Self { session, arrival } = self;
        session.shared.abort(arrival.id);
        let reset = frame::reset(arrival.id, ResetStatus::Refused);
        poll_fn(|cx| session.shared.wire.poll_control(cx, &reset)).await
    }
}

/// Reads until the connection ends, sends what no writer waits for, and watches for idleness.
async fn drive<Io: AsyncRead + AsyncWrite + Send>(
    mut incoming: Incoming<Io>,
    shared: Arc<Shared<Io>>,
    idle: Duration,
) -> Result<(), SessionError> {
    let result = tokio::select! {
        result = incoming.run() => result,
        error = poll_fn(|cx| shared.wire.poll_drive(cx)) => Err(error.into()),
        () = idled(&shared, idle) => Err(SessionError::Idle(idle)),
    };
    if matches!(
        result,
        Ok(()) | Err(SessionError::Connection(_) | SessionError::Truncated)
    ) {
        shared.wire.lose();
    }
    shared.lose_all();
    shared.wire.wake_all();
    result
}

/// Returns when nothing was sent or received for so long.
async fn idled<Io: AsyncRead + AsyncWrite>(shared: &Shared<Io>, limit: Duration) {
    loop {
        let end = shared.wire.activity().idle_at(limit);
        if end <= Instant::now() {
            return;
        }
        time::sleep_until(end).await;
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
