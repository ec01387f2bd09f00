//! Everything that is measured of a pod: its interfaces and its containers.

use std::sync::Arc;

use super::Sandboxes;
use super::record::Record;
use crate::container::{ContainerMetrics, Extent};
use crate::network::Interface;
use crate::sys::clock;

/// Everything that was measured of one pod.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    /// The pod.
    pub record: Arc<Record>,
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
    /// The interfaces of its own network; empty when not asked for.
    pub interfaces: Vec<Interface>,
    /// Its containers that live.
    pub containers: Vec<ContainerMetrics>,
}

impl Sandboxes {
    /// Measures all ready pods; their interfaces where `network` asks for that, their containers
    /// as far as `extent` says.
    pub fn measure(&self, network: bool, extent: Extent) -> Vec<PodMetrics> {
        let containers = self.containers_by_pod();
        self.all_ready(|_| true)
            .map(|(sandbox, id)| {
                let record = sandbox.record();
                let interfaces = network.then(|| self.interfaces(&record)).flatten();
                let containers = containers.get(&id).map_or(&[][..], Vec::as_slice);
                PodMetrics {
                    at_ns: clock::now_ns(),
                    interfaces: interfaces.unwrap_or_default(),
                    containers: self.rooms.containers.measure(containers, extent),
                    record,
                }
            })
            .collect()
    }
}
