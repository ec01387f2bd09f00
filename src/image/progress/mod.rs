//! What every pull does right now, and how the last ones ended.
//!
//! The pipeline counts into atomics that hang on it (`layer`), requests say what they wait for
//! (`waits`), and whoever asks gets a copy of it all (`seen`), with rates and silences worked out
//! then. Nothing here steers a pull: without an onlooker it costs a few stores for a piece of some
//! hundred kilobytes.
//!
//! The board keeps no more of a pull that ended than [`KEPT`] lines for [`KEPT_FOR`].

mod layer;
mod seen;
mod underway;
mod waits;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::ImageError;
pub(super) use layer::{LayerProgress, Step};
pub use seen::{LayerPhase, LayerSeen, Phase, PullSeen, WaitSeen};
pub(super) use underway::{Calling, Underway};
pub(super) use waits::Waits;

/// Pulls that are remembered after their end.
const KEPT: usize = 32;
/// How long they are remembered.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Characters of an error that are remembered.
const KEPT_WORDS: usize = 2000;

/// All pulls of the daemon.
#[derive(Debug)]
pub struct Board {
    pulls: Mutex<Known>,
    /// Counts what begins, ends or changes its phase, so that an onlooker can sleep until then.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    last_number: u64,
    running: Vec<Arc<Underway>>,
    /// Downloads that go on for others when the pull that began them has gone.
    left: Vec<Weak<LayerProgress>>,
    ended: VecDeque<(Instant, PullSeen)>,
}

impl Default for Board {
    fn default() -> Board {
        Board {
            pulls: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// Puts a pull on the board; it stays until the ticket is dropped.
    pub fn begin(self: &Arc<Self>, reference: &str) -> Ticket {
        let mut pulls = self.pulls();
        pulls.last_number += 1;
        let changes = self.changes.clone();
        let pull = Arc::new(Underway::new(pulls.last_number, reference, changes));
        pulls.running.push(Arc::clone(&pull));
        drop(pulls);
        self.changed();
        Ticket {
            board: Arc::clone(self),
            pull,
            end: None,
        }
    }

    /// Those in flight, oldest first, and then those that ended, the last one first.
    pub fn seen(&self) -> Vec<PullSeen> {
        let now = Instant::now();
        let (running, left, ended) = {
            let mut pulls = self.pulls();
            pulls.forget(now);
            let ended: Vec<PullSeen> = pulls.ended.iter().map(|(_, seen)| seen.clone()).collect();
            let left: Vec<_> = pulls.left.iter().filter_map(Weak::upgrade).collect();
            (pulls.running.clone(), left, ended)
        };
        let left: Vec<_> = left.iter().map(|layer| layer.seen()).collect();
        let mut all: Vec<PullSeen> = running.iter().map(|pull| pull.seen(now)).collect();
        seen::join(&mut all, &left);
        all.extend(ended.into_iter().rev());
        all
    }

    /// The pull that has begun this download goes; it goes on for others.
    pub fn left(&self, layer: &Arc<LayerProgress>) {
        self.pulls().left.push(Arc::downgrade(layer));
    }

    /// References of those in flight, and how long each has run.
    pub fn in_flight(&self) -> Vec<(String, Duration)> {
        let pulls = self.pulls();
        let told = |pull: &Arc<Underway>| (pull.reference().to_owned(), pull.began().elapsed());
        pulls.running.iter().map(told).collect()
    }

    /// Wakes when a pull begins, ends or changes its phase.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn end(&self, pull: &Arc<Underway>, end: Option<Result<String, String>>) {
        let now = Instant::now();
        let mut seen = pull.seen(now);
        seen.end(end);
        let mut pulls = self.pulls();
        pulls.running.retain(|known| !Arc::ptr_eq(known, pull));
        pulls.ended.push_back((now, seen));
        pulls.forget(now);
        drop(pulls);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn pulls(&self) -> MutexGuard<'_, Known> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Instant) {
        let old = |ended: &Instant| now.saturating_duration_since(*ended) > KEPT_FOR;
        self.left.retain(|layer| layer.strong_count() > 0);
        while self.ended.len() > KEPT || self.ended.front().is_some_and(|(ended, _)| old(ended)) {
            self.ended.pop_front();
        }
    }
}

/// A pull's place on the board. Dropped without an end it was cancelled.
#[derive(Debug)]
pub struct Ticket {
    board: Arc<Board>,
    pull: Arc<Underway>,
    end: Option<Result<String, String>>,
}

impl Ticket {
    /// The pull.
    pub fn pull(&self) -> &Arc<Underway> {
        &self.pull
    }

    /// Takes the pull from the board: `outcome` is the image's id or why there is none.
    pub fn end(mut self, outcome: &Result<String, ImageError>) {
        self.end = Some(match outcome {
            Ok(id) => Ok(id.clone()),
            Err(error) => Err(error.to_string().chars().take(KEPT_WORDS).collect()),
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let end = self.end.take();
        if end.is_none() {
            let elapsed_ms = self.pull.began().elapsed().as_millis();
            let image = self.pull.reference();
            tracing::info!(
                image,
                elapsed_ms,
                "pull cancelled: its last caller went away"
            );
        }
        self.board.end(&self.pull, end);
    }
}

#[cfg(test)]
mod tests;
