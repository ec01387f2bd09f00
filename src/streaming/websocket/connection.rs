//! A WebSocket connection while a session runs over it: takes the client's messages to their
//! channels and what is written there to the client, answers pings, and ends it properly.
//!
//! Memory is bounded by what one read takes, by what may wait in channels (`inflow`) and by the
//! frames that wait for the client: a client that does not read stops whoever writes to it, a
//! channel that is not read stops the client, once that is full.
//!
//! A client that is stopped cannot be heard asking whether we are there: its pings wait behind its
//! own bytes. Go's client gives up after 61 seconds without an answer, so it is answered unasked. It
//! also ends its input when one write of its own (32 KiB) takes longer than 60 seconds
//! (client-go/tools/remotecommand/websocket.go); only taking its bytes could help against that.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{FusedFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::channel::{ChannelReader, ChannelWriter, Framing, Inbox, NotBase64};
use super::frame::{CloseCode, Decoder, FrameError, Opcode, Piece, close, push_head};
use crate::streaming::inflow::Inflow;

/// Room for one read.
const READ_BYTES: usize = 32 << 10;
/// Frames that wait for the client, of at most 64 KiB each.
const MAX_FRAMES: usize = 4;
/// How often a client that is stopped is told that we are there.
const UNASKED: Duration = Duration::from_secs(10);
/// How long a client may take to answer the last frame, and to take what is before it when nobody
/// needs it any more.
const LINGER: Duration = Duration::from_secs(5);

/// A connection whose channels are being chosen.
#[derive(Debug)]
pub(super) struct Connection<Io> {
    io: Io,
    framing: Framing,
    inbox: Inbox,
    frames: mpsc::Receiver<Vec<u8>>,
    sender: mpsc::Sender<Vec<u8>>,
}

/// Why nothing more comes from a client.
#[derive(Debug, thiserror::Error)]
enum ClientEnd {
    /// It has said so, or hung up.
    #[error("the client has gone")]
    Gone,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Data(#[from] NotBase64),
    #[error("no byte came or went for too long")]
    Idle,
}

impl ClientEnd {
    fn code(&self) -> CloseCode {
        match self {
            Self::Gone => CloseCode::Normal,
            Self::Frame(_) => CloseCode::Protocol,
            Self::Data(_) => CloseCode::Data,
            Self::Idle => CloseCode::GoingAway,
        }
    }
}

impl<Io: AsyncRead + AsyncWrite> Connection<Io> {
    /// What the client has sent and nobody has taken yet waits in `inflow`.
    pub(super) fn new(io: Io, framing: Framing, inflow: Inflow) -> Self {
        let (sender, frames) = mpsc::channel(MAX_FRAMES);
        Self {
            io,
            framing,
            inbox: Inbox::new(framing, inflow),
            frames,
            sender,
        }
    }

    /// What the client has sent and nobody has taken yet.
    pub(super) fn inflow(&self) -> Arc<Inflow> {
        Arc::clone(self.inbox.inflow())
    }

    /// The bytes that the client sends on a channel.
    pub(super) fn reader(&mut self, channel: u8) -> ChannelReader {
        self.inbox.reader(channel)
    }

    /// Takes bytes for a channel to the client.
    pub(super) fn writer(&self, channel: u8) -> ChannelWriter {
        ChannelWriter::new(channel, self.framing, self.sender.clone())
    }

    /// Sends an empty message on a channel; before [`run`](Self::run), when there is room for it.
    pub(super) fn greet(&self, channel: u8) {
        // It is the first of all frames, so the queue takes it.
        drop(self.sender.try_send(self.framing.message(channel, &[])));
    }

    /// Does `work`, which reads and writes the channels, and closes the connection after it. When
    /// the client goes away, breaks a rule or is silent for `idle`, the work is dropped: `None`.
    pub(super) async fn run<T>(self, work: impl Future<Output = T>, idle: Duration) -> Option<T> {
        let Self {
            io,
            mut inbox,
            frames,
            sender,
            ..
        } = self;
        drop(sender);
        let (mut from_client, mut to_client) = tokio::io::split(io);
        let (ping, pings) = watch::channel(BytesMut::new());
        let activity = Activity::new();
        let mut read = pin!(read(&mut from_client, &mut inbox, &ping, &activity).fuse());
        let write = write(&mut to_client, frames, pings, &activity);
        let mut write = Box::pin(write.fuse());
        let mut work = Some(Box::pin(work.fuse()));
        let mut done = None;
        let ended = loop {
            let working = async {
                match work.as_mut() {
                    Some(work) => work.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = working => {
                    done = Some(result);
                    work = None;
                    if write.is_terminated() { break None; }
                }
                written = &mut write => match written {
                    Err(_) => break Some(ClientEnd::Gone),
                    Ok(()) if work.is_none() => break None,
                    Ok(()) => {}
                },
                Err(end) = &mut read => break Some(end),
                () = activity.idle(idle) => break Some(ClientEnd::Idle),
            }
        };
        drop(work);
        let code = ended.as_ref().map_or(CloseCode::Normal, ClientEnd::code);
        if let Some(end) = ended {
            tracing::debug!(%end, "WebSocket connection ends");
        }
        // A frame that was begun must be ended, or the next is not understood.
        let flushed =
            write.is_terminated() || matches!(timeout(LINGER, &mut write).await, Ok(Ok(())));
        drop(write);
        if flushed {
            let hang_up = hang_up(&mut to_client, code, read);
            if let Err(error) = timeout(LINGER, hang_up)
                .await
                .unwrap_or_else(|late| Err(late.into()))
            {
                tracing::debug!(%error, "WebSocket connection not closed properly");
            }
        }
        done
    }
}

/// Says the last word, hears the client's, and closes.
async fn hang_up(
    to_client: &mut (impl AsyncWrite + Unpin),
    code: CloseCode,
    read: impl FusedFuture<Output = Result<Infallible, ClientEnd>>,
) -> std::io::Result<()> {
    to_client.write_all(&close(code)).await?;
    to_client.flush().await?;
    if !read.is_terminated() {
        let Err(_gone) = read.await;
    }
    to_client.shutdown().await
}

/// Takes what comes to its channel, until nothing comes any more.
async fn read(
    from_client: &mut (impl AsyncRead + Unpin),
    inbox: &mut Inbox,
    ping: &watch::Sender<BytesMut>,
    activity: &Activity,
) -> Result<Infallible, ClientEnd> {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    // Not moved by what is delivered: a ping may wait behind much that goes slowly.
    let mut silent_until = Instant::now() + UNASKED;
    loop {
        while let Some(piece) = decoder.next(&mut input)? {
            match piece {
                Piece::Data {
                    bytes,
                    begins,
                    ends,
                } => {
                    let mut delivery = pin!(inbox.deliver(bytes, begins, ends));
                    loop {
                        match timeout_at(silent_until, &mut delivery).await {
                            Ok(delivered) => break delivered?,
                            Err(_late) => drop(ping.send(BytesMut::new())),
                        }
                        silent_until = Instant::now() + UNASKED;
                    }
                }
                // Only the last one needs an answer (RFC 6455, section 5.5.3).
                Piece::Ping(bytes) => {
                    silent_until = Instant::now() + UNASKED;
                    drop(ping.send(bytes));
                }
                Piece::Close => return Err(ClientEnd::Gone),
            }
        }
        input.reserve(READ_BYTES);
        match from_client.read_buf(&mut input).await {
            Ok(1..) => activity.seen(),
            Ok(0) | Err(_) => return Err(ClientEnd::Gone),
        }
    }
}

/// Writes frames until there is nobody left who could send one.
async fn write(
    to_client: &mut (impl AsyncWrite + Unpin),
    mut frames: mpsc::Receiver<Vec<u8>>,
    mut pings: watch::Receiver<BytesMut>,
    activity: &Activity,
) -> std::io::Result<()> {
    let mut pinged = true;
    loop {
        let frame = tokio::select! {
            biased;
            changed = pings.changed(), if pinged => {
                let Ok(()) = changed else {
                    pinged = false;
                    continue;
                };
                pong(&pings.borrow_and_update())
            }
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => break,
            },
        };
        to_client.write_all(&frame).await?;
        if frames.is_empty() {
            to_client.flush().await?;
        }
        activity.seen();
    }
    to_client.flush().await
}

fn pong(ping: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(2 + ping.len());
    push_head(&mut frame, Opcode::Pong, ping.len());
    frame.extend_from_slice(ping);
    frame
}

/// When a byte came or went.
#[derive(Debug)]
struct Activity {
    start: Instant,
    /// Milliseconds after the start.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn seen(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Waits until nothing has come or gone for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let end = self.start + last + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
