//! The samples of one cgroup over time: how fast it uses processors, and the last one kept for a
//! while where the configuration says so.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Stats;
use crate::cgroup::error::CgroupError;

/// The shortest time over which the use of processors is averaged, in nanoseconds.
const RATE_WINDOW_NS: i64 = 1_000_000_000;
/// Nanoseconds in a second.
const NS: u128 = 1_000_000_000;

/// What a cgroup used at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was taken, nanoseconds since 1970.
    pub at_ns: i64,
    /// The figures.
    pub stats: Stats,
    /// Processor time a second, in nanoseconds; `None` until there are two samples a second apart,
    /// so that the kubelet computes its own.
    pub nano_cores: Option<u64>,
}

/// What is remembered of a cgroup between samples.
#[derive(Debug, Default)]
pub struct History(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// What the next rate is computed from.
    mark: Option<Mark>,
    /// The last sample, kept only where samples may be answered again.
    last: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at_ns: i64,
    usage_ns: u64,
    nano_cores: Option<u64>,
}

impl History {
    /// The last sample if it is younger than `max_age`, or else what `read` finds at `now_ns`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn sample(
        &self,
        now_ns: i64,
        max_age: Duration,
        read: impl FnOnce() -> Result<Stats, CgroupError>,
    ) -> Result<Sample, CgroupError> {
        let max_age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        if let Some(last) = &self.remembered().last
            && (0..max_age).contains(&(now_ns - last.at_ns))
        {
            return Ok(last.clone());
        }
        let stats = read()?;
        let mut remembered = self.remembered();
        let usage_ns = stats.cpu.as_ref().map(|cpu| cpu.usage_ns);
        let sample = Sample {
            at_ns: now_ns,
            nano_cores: usage_ns.and_then(|usage_ns| remembered.rate(now_ns, usage_ns)),
            stats,
        };
        if max_age > 0 {
            remembered.last = Some(sample.clone());
        }
        Ok(sample)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    /// The rate up to this sample, or the one before when that is too recent to tell.
    fn rate(&mut self, at_ns: i64, usage_ns: u64) -> Option<u64> {
        let nano_cores = match self.mark {
            // Two who ask at once may come here in either order.
            Some(mark) if at_ns - mark.at_ns < RATE_WINDOW_NS => return mark.nano_cores,
            Some(mark) => {
                let used = u128::from(usage_ns.saturating_sub(mark.usage_ns));
                let elapsed = u128::try_from(at_ns - mark.at_ns).unwrap_or(u128::MAX);
                u64::try_from(used * NS / elapsed).ok()
            }
            None => None,
        };
        self.mark = Some(Mark {
            at_ns,
            usage_ns,
            nano_cores,
        });
        nano_cores
    }
}

#[cfg(test)]
mod tests {
    use super::super::CpuStats;
    use super::*;

    fn used(usage_ns: u64) -> Stats {
        Stats {
            cpu: Some(CpuStats {
                usage_ns,
                ..CpuStats::default()
            }),
            ..Stats::default()
        }
    }

    #[test]
    fn a_rate_needs_two_samples_a_second_apart() {
        let history = History::default();
        for (at_ns, usage_ns, rate) in [
            (1_000_000_000, 500, None),
            (1_500_000_000, 900, None),
            (3_000_000_000, 1_000_000_500, Some(500_000_000)),
            (3_000_000_001, 0, Some(500_000_000)),
        ] {
            let sample = history.sample(at_ns, Duration::ZERO, || Ok(used(usage_ns)));
            assert_eq!(sample.unwrap().nano_cores, rate, "at {at_ns}");
        }
    }

    #[test]
    fn a_sample_is_answered_again_for_as_long_as_asked_and_never_without() {
        let history = History::default();
        let at = |at_ns: i64, max_age: u64, usage_ns: u64| {
            let max_age = Duration::from_nanos(max_age);
            let sample = history
                .sample(at_ns, max_age, || Ok(used(usage_ns)))
                .unwrap();
            (sample.at_ns, sample.stats.cpu.unwrap().usage_ns)
        };
        assert_eq!(at(100, 50, 1), (100, 1));
        assert_eq!(at(149, 50, 2), (100, 1));
        assert_eq!(at(150, 50, 3), (150, 3));
        assert_eq!(at(151, 0, 4), (151, 4), "always anew");
        assert_eq!(at(140, 50, 5), (140, 5), "a clock that was set back");
    }
}
