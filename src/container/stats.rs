//! What a container uses now.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Container, ContainerError, Containers, Phase, Record};
use crate::cgroup::{CgroupError, Cgroups, Stats};
use crate::storage::Usage;
use crate::sys::clock;

/// The shortest time over which the use of processors is averaged, in nanoseconds.
const RATE_WINDOW_NS: i64 = 1_000_000_000;

/// A sample of what one container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub record: Arc<Record>,
    /// When the sample was taken, nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// Its cgroup's figures; `None` when it has ended.
    pub usage: Option<Stats>,
    /// Processor time a second, in nanoseconds; `None` until there are two samples.
    pub nano_cores: Option<u64>,
    /// Its writable layer; `None` until it has been measured for the first time.
    pub writable_layer: Option<Usage>,
}

/// The sample that the next one's rate is computed from.
#[derive(Debug, Default)]
pub(super) struct CpuHistory(Mutex<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ns: i64,
    usage_ns: u64,
    nano_cores: Option<u64>,
}

impl CpuHistory {
    /// The rate up to this sample, or the one before when that is too recent to tell.
    fn rate(&self, at_ns: i64, usage_ns: u64) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nano_cores = match *last {
            Some(Sample { at_ns: before, .. }) if at_ns - before < RATE_WINDOW_NS => {
                return last.and_then(|sample| sample.nano_cores);
            }
            Some(sample) => {
                let used = u128::from(usage_ns.saturating_sub(sample.usage_ns));
                let elapsed = u128::try_from(at_ns - sample.at_ns).unwrap_or(u128::MAX);
                u64::try_from(used * 1_000_000_000 / elapsed).ok()
            }
            None => None,
        };
        *last = Some(Sample {
            at_ns,
            usage_ns,
            nano_cores,
        });
        nano_cores
    }
}

impl Containers {
    /// A sample of everything that the container of an id or a unique prefix uses.
    ///
    /// # Errors
    /// When there is no such container, or its cgroup cannot be read.
    pub fn stats(&self, prefix: &str) -> Result<ContainerStats, ContainerError> {
        let container = self.find(prefix)?;
        self.sample(&container, |cgroups, path| cgroups.stats(path))
    }

    /// A sample of what the kubelet asks for of every container every few seconds: less than
    /// [`stats`](Self::stats), at half its cost.
    ///
    /// # Errors
    /// When the cgroup cannot be read: the container may have ended in between.
    pub fn usual_stats(&self, container: &Container) -> Result<ContainerStats, ContainerError> {
        self.sample(container, |cgroups, path| cgroups.reader(path)?.sample())
    }

    fn sample(
        &self,
        container: &Container,
        read: impl FnOnce(&Cgroups, &str) -> Result<Stats, CgroupError>,
    ) -> Result<ContainerStats, ContainerError> {
        let record = container.record();
        let timestamp_ns = clock::now_ns();
        let alive = matches!(record.phase, Phase::Created | Phase::Running { .. });
        let usage = if alive {
            let cgroups = &self.rooms.cgroups;
            let path = cgroups.container_path(&record.cgroup_parent, record.id.as_str())?;
            Some(read(cgroups, &path)?)
        } else {
            None
        };
        let nano_cores = usage.as_ref().and_then(|usage| {
            container
                .cpu
                .rate(timestamp_ns, usage.cpu.as_ref()?.usage_ns)
        });
        let writable_layer = self.rooms.store.root_usage(record.id.as_str());
        Ok(ContainerStats {
            record,
            timestamp_ns,
            usage,
            nano_cores,
            writable_layer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_samples_a_second_apart() {
        let history = CpuHistory::default();
        assert_eq!(history.rate(1_000_000_000, 500), None);
        assert_eq!(history.rate(1_500_000_000, 900), None, "too soon");
        assert_eq!(
            history.rate(3_000_000_000, 1_000_000_500),
            Some(500_000_000)
        );
        assert_eq!(
            history.rate(3_000_000_001, 0),
            Some(500_000_000),
            "the last one stands"
        );
    }
}
