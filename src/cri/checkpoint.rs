//! `CheckpointContainer`: a running container's state as an archive.

use cricket_proto::cri as wire;
use tonic::Status;

use super::RuntimeApi;
use super::code::not_built;

pub(super) async fn container(
    _api: &RuntimeApi,
    _request: wire::CheckpointContainerRequest,
) -> Result<wire::CheckpointContainerResponse, Status> {
    Err(not_built("CheckpointContainer"))
}
