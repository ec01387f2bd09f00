//! Turns: one download of a layer at a time, whichever pulls want it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;

use crate::storage::Lease;

/// Turns by what comes (`Into::key`). Whoever has the turn downloads; the next one finds the layer there, or, where
/// that failed, downloads it from its own source with its own credentials. A download goes on as long
/// as anybody wants the layer, also when the pull that began it has gone.
///
/// A turn is held while the network is waited for, on purpose: it is what the others wait for too,
/// and every wait of its holder has a deadline.
#[derive(Debug, Default)]
pub(super) struct Turns {
    coming: Mutex<HashMap<String, Weak<Coming>>>,
}

/// The right to download. It holds the lease of who has just brought the layer, so that it is still
/// there when the next one looks.
pub(super) type Turn = OwnedMutexGuard<Option<Arc<Lease>>>;

/// A layer that is wanted.
#[derive(Debug, Default)]
struct Coming {
    turn: Arc<tokio::sync::Mutex<Option<Arc<Lease>>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted_by: usize,
    download: Option<AbortHandle>,
}

/// One pull's wish for a layer. The last one to be dropped ends the download.
#[derive(Debug)]
pub(super) struct Want(Arc<Coming>);

impl Turns {
    /// A layer is wanted, from now on until the answer is dropped.
    pub(super) fn want(&self, layer: &str) -> Want {
        let mut all = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, coming| coming.strong_count() > 0);
        let coming = all.get(layer).and_then(Weak::upgrade).unwrap_or_else(|| {
            let coming = Arc::new(Coming::default());
            all.insert(layer.to_owned(), Arc::downgrade(&coming));
            coming
        });
        coming.state().wanted_by += 1;
        Want(coming)
    }
}

impl Want {
    /// Waits for the turn; it ends with the guard.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.0.turn).lock_owned().await
    }

    /// Who has the turn has begun this download.
    pub(super) fn begun(&self, download: AbortHandle) {
        self.0.state().download = Some(download);
    }

    /// Whether another pull wants the layer too.
    pub(super) fn is_shared(&self) -> bool {
        self.0.state().wanted_by > 1
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.wanted_by -= 1;
        if state.wanted_by == 0
            && let Some(download) = state.download.take()
        {
            // nothing happens to one that has ended
            download.abort();
        }
    }
}

impl Coming {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
