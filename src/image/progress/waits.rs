//! What the requests of a pull wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::seen::WaitSeen;

/// The requests of one pull that have no answer yet: at most one a layer that is downloaded, and few
/// of the pull itself.
#[derive(Debug, Default)]
pub struct Waits(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: Vec<(u64, String, Instant)>,
}

/// A request without an answer; it has one, or was given up, when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    waits: Arc<Waits>,
    number: u64,
}

impl Waits {
    /// `on` is waited for from now on: a URL without its query, which may hold secrets.
    pub fn begin(self: &Arc<Self>, on: String) -> Waiting {
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        inner.open.push((number, on, Instant::now()));
        drop(inner);
        Waiting {
            waits: Arc::clone(self),
            number,
        }
    }

    pub(super) fn seen(&self, now: Instant) -> Vec<WaitSeen> {
        let seen = |(_, on, since): &(u64, String, Instant)| WaitSeen {
            on: on.clone(),
            silent: now.saturating_duration_since(*since),
        };
        self.inner().open.iter().map(seen).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let number = self.number;
        self.waits
            .inner()
            .open
            .retain(|(open, _, _)| *open != number);
    }
}
