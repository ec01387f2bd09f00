//! Containers that are being created, or that an earlier daemon was creating: no list shows them, but
//! their pod's end cancels and waits for them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Containers;
use crate::state::{ContainerName, Id};

/// How long a cancelled creation is waited for. Undoing one takes milliseconds; one that is stuck
/// before it can be undone must not hold up the end of its pod, and is undone when it goes on.
const UNDO_WAIT: Duration = Duration::from_secs(10);

/// All creations in flight that have been registered.
#[derive(Debug, Default)]
pub(super) struct Creations {
    all: Mutex<Vec<Creation>>,
    undos: Mutex<Vec<Undo>>,
}

#[derive(Debug)]
struct Creation {
    pod: Id,
    name: ContainerName,
    cancelled: CancellationToken,
}

/// What an earlier daemon had half made and this one undoes.
#[derive(Debug)]
struct Undo {
    pod: Id,
    /// Cancelled when it is over, well or not.
    over: CancellationToken,
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

    /// Registers the undoing of a half-made container of `pod`, which is over when what this returns is
    /// dropped.
    pub(super) fn register_undo(&self, pod: &Id) -> DropGuard {
        let over = CancellationToken::new();
        let mut undos = unpoisoned(&self.undos);
        undos.retain(|one| !one.over.is_cancelled());
        undos.push(Undo {
            pod: pod.clone(),
            over: over.clone(),
        });
        over.drop_guard()
    }

    /// The undoings of a pod's containers that are not over.
    fn undos(&self, pod: &Id) -> Vec<CancellationToken> {
        let undos = unpoisoned(&self.undos);
        let of_pod = undos.iter().filter(|one| one.pod == *pod);
        of_pod.map(|one| one.over.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Creation>> {
        unpoisoned(&self.all)
    }
}

fn unpoisoned<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process; between any two statements the list is whole.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.all.lock().retain(|one| one.name != self.name);
    }
}

impl Containers {
    /// Cancels what is being created in a pod, and waits until it is undone, and so is what an earlier
    /// daemon was creating. A creation that begins afterwards is the caller's to refuse.
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
        let undone = join_all(
            self.making
                .undos(pod)
                .into_iter()
                .map(CancellationToken::cancelled_owned),
        );
        if tokio::time::timeout(UNDO_WAIT, undone).await.is_err() {
            tracing::warn!(%pod, "half-made container is not undone yet, not waited for");
        }
    }
}
