//! What a pod uses now: its cgroup's figures, its interfaces' and its containers'.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::{Phase, Record};
use super::{Sandbox, SandboxError, Sandboxes};
use crate::cgroup::Sample;
use crate::container::{Container, ContainerStats};
use crate::network::{self, Interface};
use crate::state::Id;
use crate::sys::clock;

/// A sample of what one pod uses.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The pod.
    pub record: Arc<Record>,
    /// When it was asked, nanoseconds since 1970.
    pub asked_at_ns: i64,
    /// Figures of the pod's cgroup, which the kubelet makes; `None` when the pod has none of its
    /// own or it is gone.
    pub usage: Option<Sample>,
    /// The interfaces of its own network; `None` in the node's network, or when it has stopped.
    pub network: Option<PodNetwork>,
    /// Its containers that live.
    pub containers: Vec<ContainerStats>,
}

/// The interfaces of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetwork {
    /// The one that every plugin and the kubelet know, or else the first one.
    pub default: Option<Interface>,
    /// The others, without loopback.
    pub others: Vec<Interface>,
}

impl Sandboxes {
    /// A sample of what the pod of an id or a unique prefix uses.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn stats(&self, prefix: &str) -> Result<PodStats, SandboxError> {
        let sandbox = self.find(prefix)?;
        let containers = self.rooms.containers.of_pod(&sandbox.record().id);
        Ok(self.stats_of(&sandbox, &containers))
    }

    /// Samples of all ready pods that are `wanted`. One that is stopped meanwhile has less in its
    /// sample, it fails nothing.
    pub fn all_stats(&self, wanted: impl Fn(&Record) -> bool) -> Vec<PodStats> {
        let containers = self.containers_by_pod();
        self.all_ready(wanted)
            .map(|(sandbox, id)| {
                let containers = containers.get(&id).map_or(&[][..], Vec::as_slice);
                self.stats_of(&sandbox, containers)
            })
            .collect()
    }

    /// The ready pods that are `wanted`, and their ids.
    pub(super) fn all_ready(
        &self,
        wanted: impl Fn(&Record) -> bool,
    ) -> impl Iterator<Item = (Arc<Sandbox>, Id)> {
        self.all().into_iter().filter_map(move |sandbox| {
            let record = sandbox.record();
            let ready = record.phase == Phase::Ready && wanted(&record);
            ready.then(|| (sandbox, record.id.clone()))
        })
    }

    /// All containers, by their pod.
    pub(super) fn containers_by_pod(&self) -> HashMap<Id, Vec<Arc<Container>>> {
        let mut by_pod: HashMap<Id, Vec<Arc<Container>>> = HashMap::new();
        for container in self.rooms.containers.all() {
            let pod = container.record().pod.clone();
            by_pod.entry(pod).or_default().push(container);
        }
        by_pod
    }

    fn stats_of(&self, sandbox: &Sandbox, containers: &[Arc<Container>]) -> PodStats {
        let record = sandbox.record();
        let asked_at_ns = clock::now_ns();
        PodStats {
            usage: self.usage(sandbox, &record, asked_at_ns),
            network: self.interfaces(&record).map(PodNetwork::of),
            containers: self.rooms.containers.stats_of_living(containers),
            record,
            asked_at_ns,
        }
    }

    fn usage(&self, sandbox: &Sandbox, record: &Record, now_ns: i64) -> Option<Sample> {
        let parent = &record.config.cgroup_parent;
        // Without a parent the cgroup is that of all such pods, whose sum is no pod's.
        if record.phase != Phase::Ready || parent.is_empty() {
            return None;
        }
        let cgroups = &self.rooms.cgroups;
        let path = cgroups.pod_path(parent).ok()?;
        let read = || cgroups.usual_stats(&path);
        let sample = sandbox
            .history
            .sample(now_ns, self.settings.stats_max_age, read);
        sample
            .inspect_err(|error| tracing::debug!(id = %record.id, %error, "pod without figures"))
            .ok()
    }

    /// The interfaces of a pod with a network of its own.
    pub(super) fn interfaces(&self, record: &Record) -> Option<Vec<Interface>> {
        let netns = record.namespaces.network.as_ref()?;
        let counters = self.rooms.networks.counters(netns);
        counters
            .inspect_err(|error| tracing::debug!(id = %record.id, %error, "pod without counters"))
            .ok()
    }
}

impl PodNetwork {
    fn of(mut interfaces: Vec<Interface>) -> PodNetwork {
        let named = interfaces
            .iter()
            .position(|interface| interface.name == network::INTERFACE)
            .unwrap_or(0);
        let default = (named < interfaces.len()).then(|| interfaces.remove(named));
        PodNetwork {
            default,
            others: interfaces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_interface_is_eth0_or_else_the_first() {
        let named = |name: &str| Interface {
            name: name.to_owned(),
            received: Default::default(),
            sent: Default::default(),
        };
        for (names, default, others) in [
            (
                &["net1", "eth0", "net2"][..],
                Some("eth0"),
                &["net1", "net2"][..],
            ),
            (&["net1", "net2"], Some("net1"), &["net2"]),
            (&[], None, &[]),
        ] {
            let network = PodNetwork::of(names.iter().map(|name| named(name)).collect());
            assert_eq!(network.default.map(|one| one.name).as_deref(), default);
            let names: Vec<_> = network.others.into_iter().map(|one| one.name).collect();
            assert_eq!(names, others);
        }
    }
}
