//! Fault points: places where a test has the daemon kill itself.
//!
//! Only builds with debug assertions have them, which all tests run; in a release [`point`] is
//! nothing, and the variable below means nothing. What is done to a daemon there, and what has to
//! be true afterwards, is the business of `tests/faults.rs`.
//!
//! - `CRICKET_FAULT=NAME[:N]`: at the N-th pass (the first without N) the daemon kills itself with
//!   SIGKILL: no destructor runs, no buffer is written, as with a kill from outside.

#[cfg(debug_assertions)]
mod points;

/// Nothing, in a release.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Passes the fault point of this name, which [`points::POINTS`] has to know.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    assert!(
        points::POINTS.iter().any(|point| point.name == name),
        "fault point `{name}` is not in the list of them"
    );
    if let Some(fault) = armed::fault().filter(|fault| fault.is_due(name)) {
        fault.strike();
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// What the environment asks for.
    #[derive(Debug)]
    pub(super) struct Fault {
        name: String,
        /// How many passes there still are to the one that counts.
        left: AtomicU32,
    }

    pub(super) fn fault() -> Option<&'static Fault> {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        FAULT
            .get_or_init(|| {
                let asked = std::env::var("CRICKET_FAULT").ok()?;
                Some(Fault::parse(&asked))
            })
            .as_ref()
    }

    impl Fault {
        pub(super) fn parse(asked: &str) -> Self {
            let (name, number) = asked.split_once(':').unwrap_or((asked, "1"));
            Self {
                name: name.to_owned(),
                left: AtomicU32::new(number.parse().unwrap_or(1)),
            }
        }

        /// Counts a pass of `name`; whether it is the one.
        pub(super) fn is_due(&self, name: &str) -> bool {
            self.name == name && self.left.fetch_sub(1, Ordering::SeqCst) == 1
        }

        pub(super) fn strike(&self) {
            let killed = kill(Pid::this(), Signal::SIGKILL);
            unreachable!("SIGKILL to oneself returns: {killed:?}");
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn the_pass_that_is_asked_for_is_the_one_that_counts() {
        let dues = |asked: &str| {
            let fault = armed::Fault::parse(asked);
            let names = ["other", "pod.recorded", "pod.recorded", "pod.recorded"];
            names.map(|name| fault.is_due(name))
        };
        assert_eq!(dues("pod.recorded"), [false, true, false, false]);
        assert_eq!(dues("pod.recorded:2"), [false, false, true, false]);
        assert_eq!(dues("pod.files-made"), [false; 4]);
    }

    #[test]
    fn a_point_has_one_row_for_each_operation() {
        let rows = points::POINTS;
        for (index, row) in rows.iter().enumerate() {
            assert!(!rows[..index].contains(row), "{row:?} is there twice");
        }
    }
}
