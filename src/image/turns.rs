//! Turns: one download of a layer at a time, whichever pulls want it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

type Turn = tokio::sync::Mutex<()>;

/// Turns by layer. Whoever has the turn downloads; the next one finds the layer there, or, where
/// the first failed or went away, downloads it from its own source with its own credentials.
///
/// A turn is held while the network is waited for, on purpose: it is what the others wait for too,
/// and every wait of its holder has a deadline.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Mutex<HashMap<String, Weak<Turn>>>,
}

impl Turns {
    /// Waits for the turn of `key`; it ends with the guard.
    pub(super) async fn take(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(Turn::default());
                    turns.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
