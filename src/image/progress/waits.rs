//! What the requests of a pull wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::seen::WaitSeen;

/// The requests of one pull that have no answer yet: at most one a layer that is downloaded, and few
/// of the pull itself.
#[derive(Debug, Default)]
pub struct Waits(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    on: String,
    since: Instant,
    /// When it is asked again, where the registry has put us off.
    again: Option<Instant>,
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
        self.open(on, None)
    }

    /// `on` has said "later" and is asked again after `pause`.
    pub fn later(self: &Arc<Self>, on: String, pause: Duration) -> Waiting {
        self.open(on, Instant::now().checked_add(pause))
    }

    fn open(self: &Arc<Self>, on: String, again: Option<Instant>) -> Waiting {
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        inner.open.push(Open {
            number,
            on,
            since: Instant::now(),
            again,
        });
        drop(inner);
        Waiting {
            waits: Arc::clone(self),
            number,
        }
    }

    pub(super) fn seen(&self, now: Instant) -> Vec<WaitSeen> {
        let seen = |open: &Open| WaitSeen {
            on: open.on.clone(),
            silent: now.saturating_duration_since(open.since),
            again_in: open.again.map(|at| at.saturating_duration_since(now)),
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
        self.waits.inner().open.retain(|open| open.number != number);
    }
}
