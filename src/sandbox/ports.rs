//! Host ports of pods: which of them are the daemon's to lead, and who had them before.

use super::record::{Phase, Record};
use super::{SandboxError, Sandboxes};
use crate::network::{Former, Owner};

impl Sandboxes {
    /// Claims the ports of the node that lead into a pod that is about to be made.
    pub(super) fn claim_ports(&self, record: &Record) -> Result<(), SandboxError> {
        if !record.forwards_ports {
            return Ok(());
        }
        let owner = Owner {
            sandbox_id: record.id.as_str(),
            name: &owner_name(record),
        };
        let host_ports = self.rooms.networks.host_ports();
        Ok(host_ports.claim(&owner, &record.config.port_mappings)?)
    }

    /// Ends what leads into a pod, and gives its ports back.
    pub(super) async fn close_ports(&self, record: &Record) {
        let mappings = if record.forwards_ports {
            record.config.port_mappings.as_slice()
        } else {
            &[]
        };
        let host_ports = self.rooms.networks.host_ports();
        let result = record.cni_result.as_ref();
        host_ports.close(record.id.as_str(), mappings, result).await;
    }

    /// Opens the ports of the pods that are ready, and no others: the rest is being undone.
    pub(super) async fn restore_ports(&self) {
        let all = self.table.all();
        let pods = all.iter().filter_map(|sandbox| {
            let record = sandbox.record();
            let has_ports = record.phase == Phase::Ready && record.forwards_ports;
            has_ports.then(|| Former {
                sandbox_id: record.id.to_string(),
                name: owner_name(&record),
                mappings: record.config.port_mappings.clone(),
                result: record.cni_result.clone(),
            })
        });
        let pods = pods.collect();
        self.rooms.networks.host_ports().restore(pods).await;
    }
}

fn owner_name(record: &Record) -> String {
    let name = &record.config.name;
    format!("{}/{}", name.namespace, name.name)
}
