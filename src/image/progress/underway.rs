//! One pull on the board.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::layer::LayerProgress;
use super::seen::{Phase, PullSeen};
use super::waits::Waits;
use crate::sys::clock;

/// Callers of one pull that are shown; the others are counted.
const CALLERS_SHOWN: usize = 8;

/// A pull in flight.
#[derive(Debug)]
pub struct Underway {
    number: u64,
    reference: String,
    began: Instant,
    began_ns: i64,
    waits: Arc<Waits>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What changes at turns of the pull, not with its bytes.
#[derive(Debug)]
struct State {
    phase: Phase,
    /// The full reference that is tried, where the asked one is short.
    trying: String,
    layers: Vec<Arc<LayerProgress>>,
    last_caller: u64,
    callers: Vec<(u64, String)>,
}

/// A caller who waits for a pull; no more when this is dropped.
#[derive(Debug)]
pub struct Calling {
    pull: Arc<Underway>,
    number: u64,
}

impl Underway {
    /// One that stands on no board: a registry is asked, and nothing is pulled.
    pub fn unseen() -> Underway {
        Underway::new(0, "", watch::Sender::new(0))
    }

    pub(super) fn new(number: u64, reference: &str, changes: watch::Sender<u64>) -> Underway {
        Underway {
            number,
            reference: reference.to_owned(),
            began: Instant::now(),
            began_ns: clock::now_ns(),
            waits: Arc::default(),
            state: Mutex::new(State {
                phase: Phase::Waiting,
                trying: String::new(),
                layers: Vec::new(),
                last_caller: 0,
                callers: Vec::new(),
            }),
            changes,
        }
    }

    /// Its number on this daemon's board, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The reference as it was asked for.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Where its requests say what they wait for.
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    /// It goes on with this phase. A new try begins without layers.
    pub fn reached(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        if phase == Phase::Resolving {
            state.layers.clear();
        }
        drop(state);
        self.changed();
    }

    /// It tries this full reference now.
    pub fn tries(&self, reference: String) {
        self.state().trying = reference;
    }

    /// These are its layers, lowest first.
    pub fn has(&self, layers: Vec<Arc<LayerProgress>>) {
        self.state().layers = layers;
        self.reached(Phase::Fetching);
    }

    /// Someone waits for it: a pod, or what kind of client.
    pub fn call(self: &Arc<Self>, caller: String) -> Calling {
        let mut state = self.state();
        state.last_caller += 1;
        let number = state.last_caller;
        state.callers.push((number, caller));
        drop(state);
        self.changed();
        Calling {
            pull: Arc::clone(self),
            number,
        }
    }

    pub(super) fn seen(&self, now: Instant) -> PullSeen {
        let (phase, trying, layers, callers, more_callers) = {
            let state = self.state();
            let shown = state.callers.iter().take(CALLERS_SHOWN);
            let callers: Vec<String> = shown.map(|(_, caller)| caller.clone()).collect();
            let more = state.callers.len() - callers.len();
            let trying = state.trying.clone();
            (state.phase, trying, state.layers.clone(), callers, more)
        };
        let layers: Vec<_> = layers.iter().map(|layer| layer.seen()).collect();
        let mut waits_for = self.waits.seen(now);
        let put_off = waits_for.iter().any(|wait| wait.again_in.is_some());
        let phase = match phase {
            Phase::Resolving | Phase::Verifying if put_off => Phase::Waiting,
            phase => phase,
        };
        waits_for.extend(layers.iter().filter_map(|layer| layer.waits_for.clone()));
        PullSeen {
            number: self.number,
            reference: self.reference.clone(),
            trying,
            callers,
            more_callers,
            began_ns: self.began_ns,
            elapsed: now.saturating_duration_since(self.began),
            phase,
            outcome: String::new(),
            fetched_bytes: layers.iter().map(|layer| layer.fetched_bytes).sum(),
            layers,
            waits_for,
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calling {
    /// The pull that is waited for.
    pub fn pull(&self) -> &Arc<Underway> {
        &self.pull
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let number = self.number;
        self.pull
            .state()
            .callers
            .retain(|(known, _)| *known != number);
    }
}
