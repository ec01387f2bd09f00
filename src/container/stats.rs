//! What a container uses now.

use std::sync::Arc;

use super::{Container, ContainerError, Containers, Phase, Record};
use crate::cgroup::Sample;
use crate::storage::Usage;
use crate::sys::clock;

/// A sample of what one container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// The container.
    pub record: Arc<Record>,
    /// When it was asked, nanoseconds since 1970.
    pub asked_at_ns: i64,
    /// Its cgroup's figures; `None` when it has ended.
    pub usage: Option<Sample>,
    /// Its writable layer, as it was measured last; `None` when it has none.
    pub writable_layer: Option<Usage>,
}

impl Containers {
    /// A sample of what the container of an id or a unique prefix uses.
    ///
    /// # Errors
    /// When there is no such container, or its cgroup cannot be read.
    pub fn stats(&self, prefix: &str) -> Result<ContainerStats, ContainerError> {
        self.stats_of(&*self.find(prefix)?)
    }

    /// A sample of what a container uses. Reads a few files of the kernel's, nothing on a disk: the
    /// writable layer is measured in the background.
    ///
    /// # Errors
    /// When the cgroup cannot be read: the container may have ended in between.
    pub fn stats_of(&self, container: &Container) -> Result<ContainerStats, ContainerError> {
        let record = container.record();
        let asked_at_ns = clock::now_ns();
        let usage = if record.is_alive() {
            let cgroups = &self.rooms.cgroups;
            let path = cgroups.container_path(&record.cgroup_parent, record.id.as_str())?;
            let max_age = self.settings.stats_max_age;
            let read = || cgroups.usual_stats(&path);
            Some(container.history.sample(asked_at_ns, max_age, read)?)
        } else {
            None
        };
        Ok(ContainerStats {
            writable_layer: self.rooms.store.root_usage(record.id.as_str()),
            record,
            asked_at_ns,
            usage,
        })
    }

    /// Samples of those of some containers that live. One that ends meanwhile is left out.
    pub fn stats_of_living(&self, containers: &[Arc<Container>]) -> Vec<ContainerStats> {
        let samples = containers
            .iter()
            .filter_map(|container| self.stats_of(container).ok());
        samples.filter(|sample| sample.usage.is_some()).collect()
    }
}

impl Record {
    /// Whether the container has processes.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Created | Phase::Running { .. })
    }
}
