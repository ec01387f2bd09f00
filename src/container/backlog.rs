//! What an attached client has not taken yet, so that a burst of output, or a pause of the
//! client's, does not cut it off.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::runtime::Piece;

/// Most bytes that wait for one client. It costs memory only while they wait. What is more waits
/// with the monitor, which cuts the client off after another mebibyte.
const MAX_BYTES: usize = 16 << 20;
/// Small pieces are put together up to this size.
const PIECE_BYTES: usize = 32 << 10;

/// Which of its outputs the container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Pieces of output, in order, between who reads them and who passes them on.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    came: Notify,
    went: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<(Stream, Vec<u8>)>,
    bytes: usize,
    ended: bool,
}

impl Backlog {
    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        while self.lock().bytes >= MAX_BYTES {
            self.went.notified().await;
        }
    }

    pub(super) fn push(&self, piece: Piece<'_>) {
        let (stream, data) = match piece {
            Piece::Stdout(data) => (Stream::Stdout, data),
            Piece::Stderr(data) => (Stream::Stderr, data),
        };
        let mut waiting = self.lock();
        waiting.bytes += data.len();
        match waiting.pieces.back_mut() {
            Some((last, bytes)) if *last == stream && bytes.len() + data.len() <= PIECE_BYTES => {
                bytes.extend_from_slice(data);
            }
            _ => waiting.pieces.push_back((stream, data.to_vec())),
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.came.notify_one();
    }

    /// Waits for the next piece; `None` after the last.
    pub(super) async fn take(&self) -> Option<(Stream, Vec<u8>)> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some((stream, data)) = waiting.pieces.pop_front() {
                    waiting.bytes -= data.len();
                    self.went.notify_one();
                    return Some((stream, data));
                }
                if waiting.ended {
                    return None;
                }
            }
            self.came.notified().await;
        }
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_small_ones_together_and_then_the_end() {
        let backlog = Backlog::default();
        for data in [b"a", b"b"] {
            backlog.push(Piece::Stdout(data));
        }
        backlog.push(Piece::Stderr(b"c"));
        backlog.push(Piece::Stdout(&[7; PIECE_BYTES]));
        backlog.push(Piece::Stdout(b"d"));
        backlog.end();
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        assert_eq!(backlog.take().await, Some((out, b"ab".to_vec())));
        assert_eq!(backlog.take().await, Some((err, b"c".to_vec())));
        assert_eq!(backlog.take().await, Some((out, vec![7; PIECE_BYTES])));
        assert_eq!(backlog.take().await, Some((out, b"d".to_vec())));
        assert_eq!(backlog.take().await, None);
    }

    #[tokio::test]
    async fn there_is_room_up_to_the_bound_and_again_when_something_is_taken() {
        let backlog = Backlog::default();
        for _ in 0..MAX_BYTES / PIECE_BYTES {
            assert!(backlog.room().now_or_never().is_some());
            backlog.push(Piece::Stdout(&[0; PIECE_BYTES]));
        }
        assert!(backlog.room().now_or_never().is_none());
        let (_, taken) = tokio::join!(backlog.room(), backlog.take());
        assert_eq!(taken.map(|(_, data)| data.len()), Some(PIECE_BYTES));
    }
}
