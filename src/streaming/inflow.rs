//! What a session's client has sent and nobody has taken yet: a queue for each of its streams, all
//! within what one session may hold.
//!
//! The streams share one connection, and no client heeds a word to stop one of them. So reading of
//! the connection goes on while there is room, whichever stream takes it up, and then pauses for
//! all of them. Which stream it waits for can be asked ([`Inflow::stalled`]); whether others are
//! worth giving that one up, its protocol knows.
//!
//! Memory is counted as it is used: in chunks, which are made when bytes come and freed when they
//! are read. Each stream may have one chunk beyond what the session may hold, so that a stream
//! that is read gets its bytes however much waits for another.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::ReadBuf;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Most bytes that wait in a session, without the first chunk of each stream.
pub const SESSION_BYTES: usize = 16 << 20;

/// How long reading waits for one stream, of which nothing is taken, before others that could go
/// on are worth more.
pub const STALLED: Duration = Duration::from_secs(10);

/// What is counted, and allocated at a time.
pub const CHUNK: usize = 16 << 10;

/// What the queues of a session share.
#[derive(Debug)]
pub struct Inflow {
    /// Chunks that may still be made.
    free: AtomicUsize,
    /// The reading task, when it waits for room.
    reading: AtomicWaker,
    /// What it waits for.
    blocked: watch::Sender<Option<Blocked>>,
}

#[derive(Debug, Clone, Copy)]
struct Blocked {
    stream: u32,
    /// How much had been taken from the stream at `since`.
    taken: u64,
    since: Instant,
}

impl Inflow {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            free: AtomicUsize::new(bytes / CHUNK),
            reading: AtomicWaker::new(),
            blocked: watch::Sender::new(None),
        }
    }

    /// Waits until `attempt` finds room in a stream's queue; it fails with how much was taken from
    /// the queue ([`Queue::taken`]). For the task that reads the connection, and no other.
    pub fn poll_room<T>(
        &self,
        context: &mut Context<'_>,
        stream: u32,
        attempt: impl Fn() -> Result<T, u64>,
    ) -> Poll<T> {
        let found = attempt().or_else(|_| {
            self.reading.register(context.waker());
            attempt()
        });
        match found {
            Ok(done) => {
                self.blocked
                    .send_if_modified(|blocked| blocked.take().is_some());
                Poll::Ready(done)
            }
            Err(taken) => {
                self.wait_for(stream, taken);
                Poll::Pending
            }
        }
    }

    fn wait_for(&self, stream: u32, taken: u64) {
        self.blocked.send_if_modified(|blocked| {
            let same = blocked.is_some_and(|it| (it.stream, it.taken) == (stream, taken));
            if !same {
                *blocked = Some(Blocked {
                    stream,
                    taken,
                    since: Instant::now(),
                });
            }
            !same
        });
    }

    /// Waits until reading has waited so long for a stream of which nothing was taken: which. The
    /// time then begins anew. May be cancelled.
    pub async fn stalled(&self, limit: Duration) -> u32 {
        let mut changes = self.blocked.subscribe();
        loop {
            let blocked = *changes.borrow_and_update();
            let expiry = blocked.map(|blocked| blocked.since + limit);
            tokio::select! {
                // The sender is our own.
                _ = changes.changed() => {}
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {
                    if let Some(stream) = self.begin_anew(limit) {
                        return stream;
                    }
                }
            }
        }
    }

    fn begin_anew(&self, limit: Duration) -> Option<u32> {
        let mut stalled = None;
        let now = Instant::now();
        self.blocked.send_if_modified(|blocked| {
            if let Some(blocked) = blocked.as_mut().filter(|it| it.since + limit <= now) {
                stalled = Some(blocked.stream);
                blocked.since = now;
            }
            stalled.is_some()
        });
        stalled
    }

    /// Something was taken or thrown away, or need not be kept any more.
    pub fn wake(&self) {
        self.reading.wake();
    }

    fn take_chunk(&self) -> bool {
        // Only the reading task takes, so what is free stays free.
        let free = self.free.load(Ordering::Acquire) > 0;
        if free {
            self.free.fetch_sub(1, Ordering::AcqRel);
        }
        free
    }

    fn give_back(&self, chunks: usize) {
        self.free.fetch_add(chunks, Ordering::AcqRel);
    }

    /// Chunks that may still be made.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Acquire)
    }
}

/// Bytes of one stream, in their order. Whoever changes it wakes the reading task when it has
/// taken something.
#[derive(Debug, Default)]
pub struct Queue {
    /// None is empty. All but one of them are counted.
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first is read.
    read: usize,
    taken: u64,
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many bytes were taken from the queue in its life.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Puts in as much of `data` as there is room for; how much.
    pub fn put(&mut self, inflow: &Inflow, data: &[u8]) -> usize {
        let mut rest = data;
        while !rest.is_empty() {
            if self.chunks.back().is_none_or(|last| last.len() == CHUNK) {
                if !self.chunks.is_empty() && !inflow.take_chunk() {
                    break;
                }
                self.chunks.push_back(Vec::with_capacity(CHUNK));
            }
            let Some(last) = self.chunks.back_mut() else {
                break;
            };
            let (now, later) = rest.split_at(rest.len().min(CHUNK - last.len()));
            last.extend_from_slice(now);
            rest = later;
        }
        data.len() - rest.len()
    }

    /// Takes as much as there is room for in `buffer`.
    pub fn take(&mut self, inflow: &Inflow, buffer: &mut ReadBuf<'_>) {
        while let Some(first) = self.chunks.front()
            && buffer.remaining() > 0
        {
            let count = (first.len() - self.read).min(buffer.remaining());
            buffer.put_slice(&first[self.read..self.read + count]);
            self.read += count;
            self.taken += count as u64;
            if self.read == first.len() {
                self.read = 0;
                self.chunks.pop_front();
                if !self.chunks.is_empty() {
                    inflow.give_back(1);
                }
            }
        }
    }

    /// Throws away what waits.
    pub fn clear(&mut self, inflow: &Inflow) {
        inflow.give_back(self.chunks.len().saturating_sub(1));
        self.chunks = VecDeque::new();
        self.read = 0;
    }
}

#[cfg(test)]
#[path = "inflow_tests.rs"]
mod tests;
