//! What happens to pods and containers that others are told of, each once and in order.

use std::sync::{Mutex, PoisonError};

/// A step in the life of a pod or a container (`runtime.v1.ContainerEventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// It is there.
    Created,
    /// It runs.
    Started,
    /// It has ended.
    Stopped,
    /// It is forgotten.
    Deleted,
}

/// The steps of one object that have been told.
///
/// Its start and its end are seen by different tasks, and a command may end before the task that
/// started it goes on: the end is told after the start all the same.
#[derive(Debug)]
pub struct Told(Mutex<Option<Happening>>);

impl Told {
    /// An object of which everything up to `last` was told already; `None`: nothing.
    pub fn up_to(last: Option<Happening>) -> Self {
        Self(Mutex::new(last))
    }

    /// Tells the steps up to `now` that have not been told, without those that `missed` says never
    /// happened.
    pub fn reach(
        &self,
        now: Happening,
        missed: impl Fn(Happening) -> bool,
        mut tell: impl FnMut(Happening),
    ) {
        const ALL: [Happening; 4] = [
            Happening::Created,
            Happening::Started,
            Happening::Stopped,
            Happening::Deleted,
        ];
        // Held while telling, which waits for nothing: so two tasks cannot tell in wrong order.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for step in ALL {
            if Some(step) > *last && step <= now && (step == now || !missed(step)) {
                tell(step);
            }
        }
        *last = (*last).max(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::Happening::{Created, Deleted, Started, Stopped};
    use super::*;

    #[test]
    fn each_step_is_told_once_and_in_order_whoever_comes_first() {
        let cases: [(&[Happening], bool, &[Happening]); 4] = [
            (
                &[Created, Started, Stopped, Deleted],
                true,
                &[Created, Started, Stopped, Deleted],
            ),
            (
                &[Created, Stopped, Started, Deleted],
                true,
                &[Created, Started, Stopped, Deleted],
            ),
            (
                &[Created, Stopped, Deleted],
                false,
                &[Created, Stopped, Deleted],
            ),
            (
                &[Created, Created, Stopped, Stopped],
                false,
                &[Created, Stopped],
            ),
        ];
        for (reached, was_started, expected) in cases {
            let told = Told::up_to(None);
            let mut heard = Vec::new();
            for step in reached {
                let missed = |step| step == Started && !was_started;
                told.reach(*step, missed, |step| heard.push(step));
            }
            assert_eq!(heard, expected, "{reached:?}");
        }
    }

    #[test]
    fn what_an_earlier_daemon_told_is_not_told_again() {
        let told = Told::up_to(Some(Started));
        let mut heard = Vec::new();
        told.reach(Deleted, |_| false, |step| heard.push(step));
        assert_eq!(heard, [Stopped, Deleted]);
    }
}
