//! Containers that are being created: no list shows them, but their pod's end cancels them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Containers;
use crate::state::{ContainerName, Id};

/// How long a cancelled creation is waited for. Undoing one takes milliseconds; one that is stuck
/// before it can be undone must not hold up the end of its pod, and is undone when it goes on.
const UNDO_WAIT: Duration = Duration::from_secs(10);

/// All creations in flight that have been registered.
#[derive(Debug, Default)]
pub(super) struct Creations(Mutex<Vec<Creation>>);

#[derive(Debug)]
struct Creation {
    pod: Id,
    name: ContainerName,
    cancelled: CancellationToken,
}

/// A creation's place among the others, until it is dropped.
#[derive(Debug)]
pub(super) struct Registered<'a> {
    all: &'a Creations,
    name: ContainerName,
    /// Cancelled when the pod is stopped.
    pub(super) cancelled: CancellationToken,
}

impl Creations {
    /// Registers the creation of `name` in `pod`; there is one of a name at a time.
    pub(super) fn register(&self, pod: &Id, name: &ContainerName) -> Registered<'_> {
        let cancelled = CancellationToken::new();
        self.lock().push(Creation {
            pod: pod.clone(),
            name: name.clone(),
            cancelled: cancelled.clone(),
        });
        Registered {
            all: self,
            name: name.clone(),
            cancelled,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Creation>> {
        // A panic ends the process; between any two statements the list is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.all.lock().retain(|one| one.name != self.name);
    }
}

impl Containers {
    /// Cancels what is being created in a pod, and waits until it is undone. A creation that begins
    /// afterwards is the caller's to refuse.
    pub async fn cancel_creations(&self, pod: &Id) {
        let names: Vec<ContainerName> = {
            let all = self.making.lock();
            let of_pod = all.iter().filter(|one| one.pod == *pod);
            of_pod
                .map(|one| {
                    one.cancelled.cancel();
                    one.name.clone()
                })
                .collect()
        };
        for name in names {
            tracing::info!(%name, "creation cancelled: its pod is stopped");
            let ended = self.creations.ended(&name);
            if tokio::time::timeout(UNDO_WAIT, ended).await.is_err() {
                tracing::warn!(%name, "cancelled creation does not end, not waited for");
            }
        }
    }
}
