//! The writing side of a connection, which all its streams share.
//!
//! A stream's writer hands its bytes straight to the connection, behind a frame head, in one
//! vectored write. Only what the connection did not take of a frame that it has begun is copied,
//! and goes before everything that comes later.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};
use tokio::time::Instant;

use super::frame;

/// Most bytes of a stream that go into one frame. More would let one stream hold up the others
/// for longer, fewer would cost system calls.
pub const MAX_DATA: usize = 128 * 1024;

/// How much may wait to be sent besides the rest of a data frame: answers to pings and the like. At
/// a ping every five seconds that is almost two hours of a client that reads nothing. When it is
/// full, nothing more is read from the client.
pub const CONTROL_ROOM: usize = 16 * 1024;

/// The writing side of a connection.
#[derive(Debug)]
pub struct Wire<Io> {
    state: Mutex<State<Io>>,
    waiters: Arc<Waiters>,
    /// Wakes all of `waiters`: the connection knows one waker only.
    waker: Waker,
    activity: Activity,
}

#[derive(Debug)]
struct State<Io> {
    io: WriteHalf<Io>,
    /// What is to be sent before anything else.
    pending: BytesMut,
    gate: Gate,
}

/// What may still be put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// The last frame is put; what waits still goes.
    Closed,
    /// Nothing: the connection is broken.
    Broken(io::ErrorKind),
}

impl<Io: AsyncRead + AsyncWrite> Wire<Io> {
    /// The writing side of a connection that just began.
    pub fn new(io: WriteHalf<Io>) -> Self {
        let waiters = Arc::new(Waiters::default());
        Self {
            state: Mutex::new(State {
                io,
                pending: BytesMut::new(),
                gate: Gate::Open,
            }),
            waker: Waker::from(Arc::clone(&waiters)),
            waiters,
            activity: Activity::new(),
        }
    }

    /// When anything was last sent or received.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Begins a DATA frame with as much of `data` as fits into one, once everything before it is
    /// sent. The number of bytes that are on their way, or will be without further ado.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn poll_data(
        &self,
        cx: &mut Context<'_>,
        stream: u32,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        ready!(self.poll_pending(&mut state, cx))?;
        let data = &data[..data.len().min(MAX_DATA)];
        let head = frame::data_head(stream, false, data.len());
        let mut sent = 0;
        if state.io.is_write_vectored() {
            let parts = [IoSlice::new(&head), IoSlice::new(data)];
            sent = ready!(self.poll_io(cx, |cx| {
                Pin::new(&mut state.io).poll_write_vectored(cx, &parts)
            }))
            .map_err(|error| state.fail(error))?;
            self.activity.touch();
        }
        if sent < head.len() + data.len() {
            state
                .pending
                .extend_from_slice(head.get(sent..).unwrap_or_default());
            state
                .pending
                .extend_from_slice(&data[sent.saturating_sub(head.len())..]);
        }
        self.advance(&mut state);
        Poll::Ready(Ok(data.len()))
    }

    /// Puts a control frame behind what is to be sent, when there is room for it.
    ///
    /// # Errors
    /// The connection is broken or closed.
    pub fn poll_control(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.check_open()?;
        if state.pending.len() + bytes.len() > MAX_DATA + CONTROL_ROOM {
            ready!(self.poll_pending(&mut state, cx))?;
        }
        self.put(&mut state, bytes);
        Poll::Ready(Ok(()))
    }

    /// Puts a control frame behind what is to be sent, whether there is room or not: for one frame
    /// at the end of a stream or of the connection.
    pub fn control_now(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.gate == Gate::Open {
            self.put(&mut state, bytes);
        }
    }

    /// Sends the connection's last frame: what comes later is refused.
    pub fn close_with(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.gate == Gate::Open {
            state.gate = Gate::Closed;
            self.put(&mut state, bytes);
        }
        drop(state);
        self.waiters.wake_all();
    }

    /// The client is gone: nothing can be sent any more.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.fail(io::ErrorKind::ConnectionReset.into());
        drop(state);
        self.waiters.wake_all();
    }

    /// Waits until everything is sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(self.poll_sent(&mut state, cx))?;
        self.poll_io(cx, |cx| Pin::new(&mut state.io).poll_flush(cx))
            .map_err(|error| state.fail(error))
    }

    /// Waits until everything is sent, then ends the sending direction of the connection.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(self.poll_sent(&mut state, cx))?;
        self.poll_io(cx, |cx| Pin::new(&mut state.io).poll_shutdown(cx))
            .map_err(|error| state.fail(error))
    }

    /// Sends on what nobody waits for. To be polled for as long as the connection lasts; ends only
    /// when it is broken.
    pub fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.waiters.driver.register(cx.waker());
        let mut state = self.lock();
        self.advance(&mut state);
        match state.gate {
            Gate::Broken(kind) => Poll::Ready(kind.into()),
            Gate::Open | Gate::Closed => Poll::Pending,
        }
    }

    /// Wakes every stream's writer, to see what has become of its stream.
    pub fn wake_all(&self) {
        self.waiters.wake_all();
    }

    /// Bytes that wait to be sent.
    #[cfg(test)]
    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<Io>> {
        // Nothing that runs under the lock panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, state: &mut State<Io>, bytes: &[u8]) {
        state.pending.extend_from_slice(bytes);
        self.advance(state);
    }

    /// Sends what can be sent now. Errors stay in `gate`; what is left is sent by whoever is
    /// woken first.
    fn advance(&self, state: &mut State<Io>) {
        let mut cx = Context::from_waker(&self.waker);
        if matches!(state.gate, Gate::Broken(_)) {
            return;
        }
        while !state.pending.is_empty() {
            match state.poll_write_pending(&mut cx) {
                Poll::Ready(Ok(())) => self.activity.touch(),
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut state.io).poll_flush(&mut cx) {
            state.fail(error);
        }
    }

    fn poll_pending(&self, state: &mut State<Io>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        state.check_open()?;
        self.poll_sent(state, cx)
    }

    fn poll_sent(&self, state: &mut State<Io>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Gate::Broken(kind) = state.gate {
            return Poll::Ready(Err(kind.into()));
        }
        while !state.pending.is_empty() {
            ready!(self.poll_io(cx, |cx| state.poll_write_pending(cx)))?;
            self.activity.touch();
        }
        Poll::Ready(Ok(()))
    }

    /// Asks the connection with the waker that stands for all. The caller's own is registered
    /// before the asking that counts, so that no wake-up is lost.
    fn poll_io<T>(
        &self,
        cx: &Context<'_>,
        mut ask: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut shared = Context::from_waker(&self.waker);
        if let Poll::Ready(done) = ask(&mut shared) {
            return Poll::Ready(done);
        }
        self.waiters.add(cx.waker());
        ask(&mut shared)
    }
}

impl<Io: AsyncRead + AsyncWrite> State<Io> {
    fn check_open(&self) -> io::Result<()> {
        match self.gate {
            Gate::Open => Ok(()),
            Gate::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Gate::Broken(kind) => Err(kind.into()),
        }
    }

    fn poll_write_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = match ready!(Pin::new(&mut self.io).poll_write(cx, &self.pending)) {
            Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero.into()))),
            Ok(sent) => sent,
            Err(error) => return Poll::Ready(Err(self.fail(error))),
        };
        self.pending.advance(sent);
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.gate = Gate::Broken(error.kind());
        self.pending.clear();
        error
    }
}

/// Who waits for the connection to take more.
#[derive(Debug, Default)]
struct Waiters {
    writers: Mutex<Vec<Waker>>,
    /// The task that sends on what no writer waits for; woken each time.
    driver: AtomicWaker,
}

impl Waiters {
    fn add(&self, waker: &Waker) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        // A stream has one writer, so this is as short as the list of streams.
        if !writers.iter().any(|other| other.will_wake(waker)) {
            writers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        self.driver.wake();
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.drain(..).for_each(Waker::wake);
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// When anything was last sent or received on a connection.
#[derive(Debug)]
pub struct Activity {
    begin: Instant,
    /// Milliseconds since the beginning.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Something was sent or received just now.
    pub fn touch(&self) {
        // 64 bits of milliseconds do not run over.
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// The time at which nothing has happened for so long, as far as is known now.
    pub fn idle_at(&self, limit: Duration) -> Instant {
        let last = self.begin + Duration::from_millis(self.last.load(Ordering::Relaxed));
        // A limit beyond what the clock holds is as good as a century.
        last.checked_add(limit)
            .unwrap_or(last + Duration::from_secs(100 * 365 * 86_400))
    }
}
