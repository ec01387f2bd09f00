//! What the daemon holds: memory of its own and open descriptors.

use std::fmt;
use std::time::Duration;

use cricket_harness::memory;

/// How many samples are taken, and how far apart: what a moment needs is not held.
const SAMPLES: (u32, Duration) = (20, Duration::from_millis(250));
/// What memory may grow without being a leak: the allocator's arenas fill unevenly. Ten thousand lost
/// structures of a pod (over 1 KiB each) are more.
const SLACK_BYTES: u64 = 8 << 20;
/// What descriptors may: a connection that is just ending.
const SLACK_DESCRIPTORS: usize = 8;

/// The least of several samples.
#[derive(Debug)]
pub(crate) struct Figures {
    private: u64,
    descriptors: usize,
}

impl Figures {
    pub(crate) async fn least(pid: u32) -> Self {
        let mut least = Self {
            private: u64::MAX,
            descriptors: usize::MAX,
        };
        for _ in 0..SAMPLES.0 {
            let private = memory::of(pid).expect("the daemon runs").private;
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .count();
            least.private = least.private.min(private);
            least.descriptors = least.descriptors.min(descriptors);
            tokio::time::sleep(SAMPLES.1).await;
        }
        least
    }

    #[track_caller]
    pub(crate) fn must_be_flat_since(&self, warm: &Self) {
        assert!(
            self.private <= warm.private + SLACK_BYTES,
            "the daemon's memory has grown: {warm}, then {self}"
        );
        assert!(
            self.descriptors <= warm.descriptors + SLACK_DESCRIPTORS,
            "the daemon's descriptors have grown: {warm}, then {self}"
        );
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.private as f64 / f64::from(1 << 20);
        write!(
            formatter,
            "{mebibytes:.1} MiB private, {} descriptors",
            self.descriptors
        )
    }
}
