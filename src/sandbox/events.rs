//! Events: what happens to pods and their containers, for those who follow it
//! (`runtime.v1.RuntimeService.GetContainerEvents`).
//!
//! An event holds the pod and its containers as they were when it was told, so it can be answered
//! when they have gone. Nobody waits for a follower: one that is more than `KEPT` events behind has
//! missed some, and learns that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::{Record, Sandbox, Sandboxes};
use crate::container;
use crate::state::{Happening, Id};
use crate::sys::clock;

/// Most events that wait for the slowest follower: what 110 pods of three containers bring when a
/// node starts them all, with room to spare.
const KEPT: usize = 2048;

/// One step in the life of a pod or of a container in it.
#[derive(Debug)]
pub struct Event {
    /// The container, or the pod itself.
    pub id: Id,
    /// What happened.
    pub step: Happening,
    /// When, in nanoseconds since 1970; later for every event than for the one before, also when
    /// the clock is set back.
    pub at_ns: i64,
    /// The pod as it is since.
    pub pod: Arc<Record>,
    /// Its containers as they are since.
    pub containers: Vec<Arc<container::Record>>,
}

/// The followers, and the time of the last event.
#[derive(Debug)]
pub(super) struct Events(Mutex<Hub>);

#[derive(Debug)]
struct Hub {
    followers: Option<broadcast::Sender<Arc<Event>>>,
    last_ns: i64,
}

impl Events {
    pub(super) fn new(enabled: bool) -> Self {
        Self(Mutex::new(Hub {
            followers: enabled.then(|| broadcast::Sender::new(KEPT)),
            last_ns: 0,
        }))
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// The time now, later than every time before.
    fn now_ns(&mut self) -> i64 {
        self.last_ns = clock::now_ns().max(self.last_ns + 1);
        self.last_ns
    }
}

impl Sandboxes {
    /// What happens from now on; `None` when the configuration has no events (`enable_pod_events`),
    /// and when the daemon is about to end.
    pub fn events(&self) -> Option<broadcast::Receiver<Arc<Event>>> {
        let hub = self.events.lock();
        hub.followers.as_ref().map(broadcast::Sender::subscribe)
    }

    /// The time of what is read right after this call, on the clock of the events: an event that
    /// tells more has a later one. `None` when there are no events.
    pub fn event_time_ns(&self) -> Option<i64> {
        let mut hub = self.events.lock();
        hub.followers.is_some().then(|| hub.now_ns())
    }

    /// Ends what followers follow.
    pub fn end_events(&self) {
        self.events.lock().followers = None;
    }

    /// From now on the pods' followers are told what happens to containers as well.
    pub(super) fn follow_containers(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.rooms
            .containers
            .follow(Box::new(move |container, step| {
                let Some(this) = this.upgrade() else { return };
                let pod = this.table.find(container.pod.as_str());
                if let Ok(pod) = pod {
                    this.tell(&container.id, step, || pod.record());
                }
            }));
    }

    /// The pod has reached this step.
    pub(super) fn announce(&self, sandbox: &Sandbox, step: Happening) {
        let missed = |_| false;
        sandbox.told.reach(step, missed, |step| {
            self.tell(&sandbox.record().id, step, || sandbox.record());
        });
    }

    fn tell(&self, id: &Id, step: Happening, pod: impl FnOnce() -> Arc<Record>) {
        // Held for all of it: the time must not be later than what is read, and events must be
        // sent in the order of their times. Reading takes other locks, for map operations only.
        let mut hub = self.events.lock();
        let followed = hub.followers.as_ref();
        if followed.is_none_or(|followers| followers.receiver_count() == 0) {
            return;
        }
        let at_ns = hub.now_ns();
        let pod = pod();
        let containers = self.rooms.containers.of_pod(&pod.id);
        let event = Event {
            id: id.clone(),
            step,
            at_ns,
            containers: containers.iter().map(|each| each.record()).collect(),
            pod,
        };
        if let Some(followers) = &hub.followers {
            // The last follower may have gone meanwhile.
            let _told = followers.send(Arc::new(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_events_never_stands_still_or_goes_back() {
        let mut hub = Hub {
            followers: None,
            last_ns: i64::MAX - 10,
        };
        assert_eq!(hub.now_ns(), i64::MAX - 9);
        assert_eq!(hub.now_ns(), i64::MAX - 8);
    }
}
