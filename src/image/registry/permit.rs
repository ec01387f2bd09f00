//! A download's place among those that run at once, given up while a registry says "later".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::image::progress::{LayerProgress, Step};

/// Held from before a layer is asked for until it is unpacked.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
    progress: Arc<LayerProgress>,
}

impl Permit {
    /// Waits for a place; the layer shows that it does.
    pub async fn take(places: &Arc<Semaphore>, progress: &Arc<LayerProgress>) -> Permit {
        let permit = Permit {
            places: Arc::clone(places),
            held: Mutex::default(),
            progress: Arc::clone(progress),
        };
        permit.acquire().await;
        permit
    }

    /// Lets another layer have the place for so long, and then waits for one again: what a registry
    /// puts off must not hold up what another one would give.
    pub async fn rest(&self, pause: Duration) {
        self.progress.reached(Step::Later);
        drop(self.held());
        tokio::time::sleep(pause).await;
        self.acquire().await;
    }

    async fn acquire(&self) {
        self.progress.reached(Step::Permit);
        // nobody closes it; without a permit the bound would be off by one, not wrong
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = permit;
        self.progress.reached(Step::Asking);
    }

    fn held(&self) -> Option<OwnedSemaphorePermit> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
