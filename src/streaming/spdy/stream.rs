//! One stream of a connection: what the client sends waits here for its reader, what its writer
//! gives goes straight to the wire.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, ResetStatus};
use super::wire::Wire;
use crate::streaming::inflow::{Inflow, Queue, SESSION_BYTES};

/// Most streams that a connection has at a time; port-forward uses two for each connection that it
/// carries.
pub const MAX_STREAMS: usize = 1024;

/// What the tasks around a connection share.
#[derive(Debug)]
pub struct Shared<Io> {
    /// The writing side.
    pub wire: Wire<Io>,
    streams: Mutex<HashMap<u32, Arc<Stream>>>,
    inflow: Arc<Inflow>,
}

/// A stream as the connection sees it.
#[derive(Debug, Default)]
pub struct Stream {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the reader has not taken yet.
    received: Queue,
    reader: Option<Waker>,
    /// The client sends no more, and how it came to that.
    remote: Option<Ending>,
    /// We send no more.
    local_done: bool,
    /// Nobody reads: what comes is thrown away.
    unread: bool,
}

/// How a direction of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a last frame.
    Finished,
    /// The client gave the whole stream up.
    Reset,
    /// The connection ended first.
    Lost,
}

impl State {
    /// Nothing that comes or goes on the stream matters any more.
    fn over(&self) -> bool {
        self.local_done && (self.remote.is_some() || self.unread)
    }
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client has sent its last byte.
    pub fn remote_done(&self) -> bool {
        self.lock().remote.is_some()
    }

    /// Whether we have nothing to send, from the beginning or any more.
    fn local_done(&self) -> bool {
        self.lock().local_done
    }
}

impl<Io> Shared<Io> {
    /// A connection without streams.
    pub fn new(wire: Wire<Io>) -> Self {
        Self {
            wire,
            streams: Mutex::default(),
            inflow: Arc::new(Inflow::new(SESSION_BYTES)),
        }
    }

    /// What the client has sent on all streams and nobody has taken yet.
    pub fn inflow(&self) -> &Arc<Inflow> {
        &self.inflow
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of this id, while it is open.
    pub fn find(&self, id: u32) -> Option<Arc<Stream>> {
        self.streams().get(&id).cloned()
    }

    /// Adds a stream that the client opened; `None` when there are too many.
    pub fn open(&self, id: u32, fin: bool, unidirectional: bool) -> Option<Arc<Stream>> {
        let mut streams = self.streams();
        if streams.len() >= MAX_STREAMS {
            return None;
        }
        let stream = Arc::new(Stream::default());
        {
            let mut state = stream.lock();
            state.remote = fin.then_some(Ending::Finished);
            state.local_done = unidirectional;
        }
        streams.insert(id, Arc::clone(&stream));
        Some(stream)
    }

    /// Takes as much of `data` as there is room for, at least one byte.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        id: u32,
        stream: &Stream,
        data: &[u8],
    ) -> Poll<usize> {
        self.inflow.poll_room(cx, id, || {
            let mut state = stream.lock();
            if state.unread || state.remote.is_some() {
                return Ok(data.len());
            }
            let taken = state.received.put(&self.inflow, data);
            if taken == 0 {
                return Err(state.received.taken());
            }
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
            Ok(taken)
        })
    }

    /// The client sends no more on a stream.
    pub fn end_remote(&self, id: u32, stream: &Stream, ending: Ending) {
        let mut state = stream.lock();
        state.remote.get_or_insert(ending);
        if ending == Ending::Reset {
            state.remote = Some(ending);
            state.local_done = true;
        }
        let over = state.over();
        let reader = state.reader.take();
        drop(state);
        self.inflow.wake();
        if let Some(reader) = reader {
            reader.wake();
        }
        if over {
            self.streams().remove(&id);
        }
    }

    /// We send no more on a stream.
    fn end_local(&self, id: u32, stream: &Stream) {
        let mut state = stream.lock();
        state.local_done = true;
        let over = state.over();
        drop(state);
        if over {
            self.streams().remove(&id);
        }
    }

    /// The connection ended: every reader is told.
    pub fn lose_all(&self) {
        let streams: Vec<_> = self.streams().drain().collect();
        for (id, stream) in streams {
            self.end_remote(id, &stream, Ending::Lost);
        }
    }
}

impl<Io: AsyncRead + AsyncWrite> Shared<Io> {
    /// Gives up a stream, in both directions, without a word to the client.
    pub fn abort(&self, id: u32) {
        if let Some(stream) = self.find(id) {
            self.end_remote(id, &stream, Ending::Reset);
            self.wire.wake_all();
        }
    }

    /// Gives up a stream that was accepted, and tells the client.
    pub fn reset(&self, id: u32, status: ResetStatus) {
        self.abort(id);
        self.wire.control_now(&frame::reset(id, status));
    }

    /// Gives up every stream on which our last byte is not sent.
    pub fn reset_unfinished(&self) {
        let unfinished: Vec<u32> = self
            .streams()
            .iter()
            .filter(|(_, stream)| !stream.local_done())
            .map(|(id, _)| *id)
            .collect();
        for id in unfinished {
            self.reset(id, ResetStatus::Cancel);
        }
    }
}

/// Both directions of a stream.
pub fn pair<Io: AsyncRead + AsyncWrite>(
    shared: &Arc<Shared<Io>>,
    id: u32,
    stream: Arc<Stream>,
) -> (StreamReader<Io>, StreamWriter<Io>) {
    let reader = StreamReader {
        shared: Arc::clone(shared),
        stream: Arc::clone(&stream),
        id,
    };
    (
        reader,
        StreamWriter {
            shared: Arc::clone(shared),
            stream,
            id,
            finished: false,
        },
    )
}

/// What the client sends on a stream. Its end is the client's FIN or reset; an error means that
/// the connection ended before. When it is dropped, the rest is thrown away.
#[derive(Debug)]
pub struct StreamReader<Io> {
    shared: Arc<Shared<Io>>,
    stream: Arc<Stream>,
    id: u32,
}

impl<Io> AsyncRead for StreamReader<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.stream.lock();
        if state.received.is_empty() {
            return match state.remote {
                Some(Ending::Finished | Ending::Reset) => Poll::Ready(Ok(())),
                Some(Ending::Lost) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        state.received.take(&self.shared.inflow, buffer);
        drop(state);
        self.shared.inflow.wake();
        Poll::Ready(Ok(()))
    }
}

impl<Io> Drop for StreamReader<Io> {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.unread = true;
        state.received.clear(&self.shared.inflow);
        let over = state.over();
        drop(state);
        if over {
            self.shared.streams().remove(&self.id);
        }
        self.shared.inflow.wake();
    }
}

/// What we send on a stream. Shutting it down sends FIN; dropping it before that resets the
/// stream.
#[derive(Debug)]
pub struct StreamWriter<Io: AsyncRead + AsyncWrite> {
    shared: Arc<Shared<Io>>,
    stream: Arc<Stream>,
    id: u32,
    finished: bool,
}

impl<Io: AsyncRead + AsyncWrite> StreamWriter<Io> {
    fn check(&self) -> io::Result<()> {
        let state = self.stream.lock();
        if state.local_done || state.remote == Some(Ending::Lost) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

impl<Io: AsyncRead + AsyncWrite> AsyncWrite for StreamWriter<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.shared.wire.poll_data(cx, self.id, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.wire.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.check()?;
            ready!(
                self.shared
                    .wire
                    .poll_control(cx, &frame::data_head(self.id, true, 0))
            )?;
            self.finished = true;
            self.shared.end_local(self.id, &self.stream);
        }
        self.shared.wire.poll_flush(cx)
    }
}

impl<Io: AsyncRead + AsyncWrite> Drop for StreamWriter<Io> {
    fn drop(&mut self) {
        if self.check().is_ok() {
            self.shared.reset(self.id, ResetStatus::Cancel);
        }
    }
}
