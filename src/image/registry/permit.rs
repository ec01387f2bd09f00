//! A download's place among those that run at once, given up while a registry says "later".

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::image::progress::{LayerProgress, Step};

/// The places for downloads. One layer of each pull needs none of the places for all of them: a
/// registry that is slow with many layers does not stop the pulls from others.
#[derive(Debug, Clone)]
pub struct Places {
    /// One, for the layer that this pull has on its way whatever other pulls do.
    pub own: Arc<Semaphore>,
    /// How many pulls may have such a layer.
    pub first: Arc<Semaphore>,
    /// For all further layers.
    pub further: Arc<Semaphore>,
}

/// Held from before a layer is asked for until it is unpacked.
#[derive(Debug)]
pub struct Permit {
    places: Places,
    held: Mutex<Held>,
    progress: Arc<LayerProgress>,
}

type Held = [Option<OwnedSemaphorePermit>; 2];

impl Places {
    /// Waits for a place. Nobody closes them; without a permit the bound would be off by one, not
    /// wrong.
    async fn take(&self) -> Held {
        let first = async {
            let own = Arc::clone(&self.own).acquire_owned().await;
            let among_pulls = Arc::clone(&self.first).acquire_owned().await;
            [own.ok(), among_pulls.ok()]
        };
        tokio::select! {
            biased;
            both = first => both,
            further = Arc::clone(&self.further).acquire_owned() => [further.ok(), None],
        }
    }
}

impl Permit {
    /// Waits for a place; the layer shows that it does.
    pub async fn take(places: Places, progress: &Arc<LayerProgress>) -> Permit {
        let permit = Permit {
            places,
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
        drop(self.replace(Held::default()));
        tokio::time::sleep(pause).await;
        self.acquire().await;
    }

    async fn acquire(&self) {
        self.progress.reached(Step::Permit);
        let held = self.places.take().await;
        drop(self.replace(held));
        self.progress.reached(Step::Asking);
    }

    fn replace(&self, held: Held) -> Held {
        let mut slot = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut slot, held)
    }
}
