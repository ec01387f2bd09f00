//! `CheckpointContainer`: a running container's state as an archive. Pods as a whole are neither
//! checkpointed nor restored.

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::plain;
use super::{RuntimeApi, request};

pub(super) async fn container(
    api: &RuntimeApi,
    request: wire::CheckpointContainerRequest,
) -> Result<wire::CheckpointContainerResponse, Status> {
    let limit = request::seconds(request.timeout);
    let containers = api.sandboxes.containers();
    let written = containers.checkpoint(&request.container_id, &request.location, limit);
    written.await.map_err(plain)?;
    Ok(wire::CheckpointContainerResponse {})
}

/// The answer to `CheckpointPod` and `RestorePod`.
pub(super) fn no_pods(call: &str) -> Status {
    Status::unimplemented(format!(
        "{call}: this runtime writes checkpoints of single containers only (CheckpointContainer)"
    ))
}
