//! What is being done to pods and containers now, and for what it waits: `ListOperations`.

use std::time::Duration;

use cricket_proto::admin as wire;

use crate::sandbox::Sandboxes;
use crate::state::InFlight;

/// The operations in flight, the longest first. From memory.
pub(super) fn list(sandboxes: &Sandboxes) -> wire::ListOperationsResponse {
    let operations = sandboxes.in_flight().into_iter().map(of_operation);
    wire::ListOperationsResponse {
        operations: operations.collect(),
    }
}

fn of_operation(one: InFlight) -> wire::Operation {
    wire::Operation {
        kind: one.operation.to_owned(),
        subject: one.key,
        stage: one.stage.to_owned(),
        stage_ms: millis(one.stage_seconds),
        waits_for: one.waits_for,
        elapsed_ms: millis(one.seconds),
    }
}

fn millis(seconds: f64) -> u64 {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
