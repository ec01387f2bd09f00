//! The channels of a WebSocket connection: one byte at the head of each message says which it
//! belongs to.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::frame::{MAX_HEAD_BYTES, Opcode, push_head};
use crate::streaming::inflow::{Inflow, Queue};

/// Most bytes that one message carries to the client. In base64 they are 64 KiB.
const MAX_PAYLOAD_BYTES: usize = 48 << 10;
/// In the place of a channel: the byte after it is a channel that the client has no more bytes
/// for (`v5.channel.k8s.io`).
const CLOSE_SIGNAL: u8 = 255;

/// How channel and bytes are written into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// The channel's number as a byte, then the bytes.
    Binary,
    /// As `Binary`, and the client can close a channel.
    Closable,
    /// The channel's number as a digit, then the bytes in base64.
    Base64,
    /// Only bytes, of a single channel 0; where messages begin and end means nothing.
    Raw,
}

/// A message that does not hold what its protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message that is not base64")]
pub(super) struct NotBase64;

impl Framing {
    /// A whole message as a frame.
    pub(super) fn message(self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Raw => {
                let mut frame = Vec::with_capacity(MAX_HEAD_BYTES + bytes.len());
                push_head(&mut frame, Opcode::Binary, bytes.len());
                frame.extend_from_slice(bytes);
                frame
            }
            Self::Binary | Self::Closable => {
                let mut frame = Vec::with_capacity(MAX_HEAD_BYTES + 1 + bytes.len());
                push_head(&mut frame, Opcode::Binary, 1 + bytes.len());
                frame.push(channel);
                frame.extend_from_slice(bytes);
                frame
            }
            Self::Base64 => {
                let text = STANDARD.encode(bytes);
                let mut frame = Vec::with_capacity(MAX_HEAD_BYTES + 1 + text.len());
                push_head(&mut frame, Opcode::Text, 1 + text.len());
                frame.push(b'0' + channel);
                frame.extend_from_slice(text.as_bytes());
                frame
            }
        }
    }
}

/// Where a client's messages go: to the channels that somebody reads.
#[derive(Debug)]
pub(super) struct Inbox {
    framing: Framing,
    inflow: Arc<Inflow>,
    channels: Vec<Sender>,
    /// The channel of the message that is being read, once its first byte has come.
    current: Option<u8>,
    /// The end of what came of a message in base64: fewer than four digits.
    carry: BytesMut,
}

impl Inbox {
    /// In all channels together may wait what there is room for in `inflow`.
    pub(super) fn new(framing: Framing, inflow: Inflow) -> Self {
        Self {
            framing,
            inflow: Arc::new(inflow),
            channels: Vec::new(),
            current: None,
            carry: BytesMut::new(),
        }
    }

    /// What the client has sent on all channels and nobody has taken yet.
    pub(super) fn inflow(&self) -> &Arc<Inflow> {
        &self.inflow
    }

    /// The bytes that the client sends on `channel`.
    pub(super) fn reader(&mut self, channel: u8) -> ChannelReader {
        let shared = Arc::new(Channel {
            number: channel,
            inflow: Arc::clone(&self.inflow),
            state: Mutex::default(),
        });
        self.channels.push(Sender(Arc::clone(&shared)));
        ChannelReader(shared)
    }

    /// Takes a piece of a message to its channel, and waits while there is no room. Pieces for
    /// channels that nobody reads are dropped.
    pub(super) async fn deliver(
        &mut self,
        mut bytes: BytesMut,
        begins: bool,
        ends: bool,
    ) -> Result<(), NotBase64> {
        if begins {
            self.current = None;
            self.carry.clear();
        }
        let channel = match (self.framing, self.current) {
            (Framing::Raw, _) => 0,
            (_, Some(channel)) => channel,
            (_, None) if bytes.is_empty() => return Ok(()),
            (Framing::Base64, None) => bytes.get_u8().wrapping_sub(b'0'),
            (Framing::Binary | Framing::Closable, None) => bytes.get_u8(),
        };
        self.current = Some(channel);
        match self.framing {
            Framing::Closable if channel == CLOSE_SIGNAL => {
                self.channels.retain(|to| !bytes.contains(&to.0.number));
                return Ok(());
            }
            Framing::Base64 => bytes = self.decode(bytes, ends)?,
            Framing::Binary | Framing::Closable | Framing::Raw => {}
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(Sender(to)) = self.channels.iter().find(|to| to.0.number == channel) {
            while !bytes.is_empty() {
                let taken = poll_fn(|context| to.poll_put(context, &bytes)).await;
                bytes.advance(taken);
            }
        }
        Ok(())
    }

    /// Decodes what is whole of it: four digits are three bytes.
    fn decode(&mut self, bytes: BytesMut, ends: bool) -> Result<BytesMut, NotBase64> {
        let mut digits = std::mem::take(&mut self.carry);
        digits.extend_from_slice(&bytes);
        if !ends {
            self.carry = digits.split_off(digits.len() / 4 * 4);
        }
        let decoded = STANDARD.decode(&digits).map_err(|_| NotBase64)?;
        Ok(BytesMut::from(&decoded[..]))
    }
}

/// One channel from the client, between the connection and whoever reads it.
#[derive(Debug)]
struct Channel {
    number: u8,
    inflow: Arc<Inflow>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Queue,
    reader: Option<Waker>,
    /// The client sends no more.
    ended: bool,
    /// Nobody reads: what comes is thrown away.
    unread: bool,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as much as there is room for, at least one byte.
    fn poll_put(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<usize> {
        self.inflow.poll_room(context, self.number.into(), || {
            let mut state = self.lock();
            if state.unread {
                return Ok(bytes.len());
            }
            let taken = state.waiting.put(&self.inflow, bytes);
            if taken == 0 {
                return Err(state.waiting.taken());
            }
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
            Ok(taken)
        })
    }
}

/// The connection's end of a channel.
#[derive(Debug)]
struct Sender(Arc<Channel>);

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// The bytes of one channel from the client. They end when the client closes the channel, or the
/// connection. When it is dropped, the rest is thrown away.
#[derive(Debug)]
pub(super) struct ChannelReader(Arc<Channel>);

impl AsyncRead for ChannelReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.waiting.take(&self.0.inflow, buffer);
        drop(state);
        self.0.inflow.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unread = true;
        state.waiting.clear(&self.0.inflow);
        drop(state);
        self.0.inflow.wake();
    }
}

/// Takes bytes for one channel to the client. The protocols have no way to end a channel but the
/// end of the connection, so its shutdown says nothing.
#[derive(Debug)]
pub(super) struct ChannelWriter {
    channel: u8,
    framing: Framing,
    frames: PollSender<Vec<u8>>,
}

impl ChannelWriter {
    pub(super) fn new(channel: u8, framing: Framing, frames: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            channel,
            framing,
            frames: PollSender::new(frames),
        }
    }
}

fn gone<E>(_: E) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone")
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.frames.poll_reserve(context)).map_err(gone)?;
        let count = bytes.len().min(MAX_PAYLOAD_BYTES);
        let frame = self.framing.message(self.channel, &bytes[..count]);
        self.frames.send_item(frame).map_err(gone)?;
        Poll::Ready(Ok(count))
    }

    /// What is written goes out as fast as the client takes it.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::streaming::inflow::SESSION_BYTES;

    /// What a reader of channel 0 gets of messages in two pieces each.
    async fn received(framing: Framing, messages: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
        let mut inbox = Inbox::new(framing, Inflow::new(SESSION_BYTES));
        let mut reader = inbox.reader(0);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.unwrap();
            read
        });
        for message in messages {
            let (one, other) = message.split_at(message.len() / 2);
            inbox.deliver(one.into(), true, false).await?;
            inbox.deliver(other.into(), false, true).await?;
        }
        drop(inbox);
        Ok(reading.await.unwrap())
    }

    #[tokio::test]
    async fn a_channel_gets_its_own_bytes_however_they_are_written() {
        for (framing, messages, expected) in [
            (Framing::Raw, &[&b"ab"[..], b"", b"c"][..], &b"abc"[..]),
            (
                Framing::Binary,
                &[b"\0ab", b"\x01no", b"", b"\0", b"\0c"],
                b"abc",
            ),
            (Framing::Binary, &[b"\xff\0", b"\0c"], b"c"),
            (Framing::Closable, &[b"\0a", b"\xff\x04", b"\0b"], b"ab"),
            (Framing::Closable, &[b"\0a", b"\xff\0", b"\0late"], b"a"),
            (
                Framing::Base64,
                &[b"0YWJjZGVm", b"1YQ==", b"0", b"0Zw=="],
                b"abcdefg",
            ),
        ] {
            let read = received(framing, messages).await;
            assert_eq!(read.as_deref(), Ok(expected), "{framing:?} {messages:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_base64_is_refused() {
        for bad in [&b"0YW!j"[..], b"0YWJ", b"0Y", b"0=", b"0\xff\xfe\xfd\xfc"] {
            assert_eq!(received(Framing::Base64, &[bad]).await, Err(NotBase64));
        }
    }

    #[tokio::test]
    async fn output_becomes_messages_of_bounded_size() {
        for (framing, frame) in [
            (Framing::Raw, &b"\x82\x02hi"[..]),
            (Framing::Binary, b"\x82\x03\x01hi"),
            (Framing::Closable, b"\x82\x03\x01hi"),
            (Framing::Base64, b"\x81\x051aGk="),
        ] {
            let (sender, mut frames) = mpsc::channel(8);
            let mut writer = ChannelWriter::new(1, framing, sender);
            writer.write_all(b"hi").await.unwrap();
            assert_eq!(frames.recv().await.unwrap(), frame, "{framing:?}");
            writer.write_all(&[0; 200_000]).await.unwrap();
            writer.shutdown().await.unwrap();
            let mut count = 0;
            while let Some(frame) = frames.recv().await {
                assert!(frame.len() <= (64 << 10) + 1 + MAX_HEAD_BYTES);
                count += 1;
            }
            assert_eq!(count, 5);
        }
    }
}
