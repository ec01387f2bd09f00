//! What is being done to pods and containers now, for people who ask why something takes so long.

use super::Sandboxes;
use crate::network;
use crate::state::InFlight;

impl Sandboxes {
    /// The operations on pods and containers in flight, the longest first, and for what each waits.
    /// From memory.
    pub fn in_flight(&self) -> Vec<InFlight> {
        let mut all = self.runs.in_flight();
        all.extend(self.stops.in_flight());
        all.extend(self.removals.in_flight());
        let plugins = self.rooms.networks.in_flight();
        for operation in &mut all {
            // While it is the network's turn, a stage names the pod that the network knows.
            let of_pod = |one: &&network::InFlight| one.sandbox_id == operation.waits_for;
            if let Some(running) = plugins.iter().find(of_pod) {
                operation.waits_for = running.to_string();
            }
        }
        all.extend(self.rooms.containers.in_flight());
        all.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        all
    }

    /// The same as JSON, and the CNI plugins that run.
    pub fn describe_in_flight(&self) -> serde_json::Value {
        let plugins = self.rooms.networks.in_flight().into_iter().map(|one| {
            serde_json::json!({
                "sandboxID": one.sandbox_id,
                "command": one.command.as_str(),
                "plugin": one.plugin.as_ref().map(|(name, _)| name),
                "pid": one.plugin.as_ref().map(|(_, pid)| pid),
                "seconds": one.since.elapsed().as_secs_f64(),
            })
        });
        let plugins: Vec<_> = plugins.collect();
        serde_json::json!({ "operations": self.in_flight(), "cni": plugins })
    }
}
