//! Announce: what happens to containers is told to whoever follows all of them.

use std::fmt;
use std::sync::OnceLock;

use super::{Container, Containers, Phase, Record};
use crate::state::Happening;

/// Told of every step of every container, on the task that makes it: must not wait.
pub type Follower = Box<dyn Fn(&Record, Happening) + Send + Sync>;

/// The one follower, once there is one.
#[derive(Default)]
pub(super) struct Followed(OnceLock<Follower>);

impl fmt::Debug for Followed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Followed")
    }
}

impl Containers {
    /// From now on `follower` is told of what happens. The first one stays.
    pub fn follow(&self, follower: Follower) {
        let _first = self.followed.0.set(follower);
    }

    /// The container has reached this step.
    pub(super) fn announce(&self, container: &Container, step: Happening) {
        let missed = |step| step == Happening::Started && !was_started(&container.record().phase);
        container
            .told
            .reach(step, missed, |step| self.tell(&container.record(), step));
    }

    /// What is known of a step has changed since it was told.
    pub(super) fn correct(&self, container: &Container, step: Happening) {
        container.told.reach(step, |_| false, |_| {});
        self.tell(&container.record(), step);
    }

    fn tell(&self, record: &Record, step: Happening) {
        if let Some(follower) = self.followed.0.get() {
            follower(record, step);
        }
    }
}

/// The step that a container found by a restarted daemon had reached.
pub(super) fn reached(phase: &Phase) -> Happening {
    match phase {
        Phase::Making | Phase::Created => Happening::Created,
        Phase::Running { .. } => Happening::Started,
        Phase::Exited(_) => Happening::Stopped,
    }
}

fn was_started(phase: &Phase) -> bool {
    match phase {
        Phase::Making | Phase::Created => false,
        Phase::Running { .. } => true,
        Phase::Exited(exit) => exit.started_at_ns != 0,
    }
}
