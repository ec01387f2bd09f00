//! New limits for a container that exists, and for a pod.

use cricket_proto::cri as wire;
use tonic::Status;

use super::RuntimeApi;
use super::code::not_built;

pub(super) async fn update_container(
    _api: &RuntimeApi,
    _request: wire::UpdateContainerResourcesRequest,
) -> Result<wire::UpdateContainerResourcesResponse, Status> {
    Err(not_built("UpdateContainerResources"))
}

pub(super) async fn update_pod(
    _api: &RuntimeApi,
    _request: wire::UpdatePodSandboxResourcesRequest,
) -> Result<wire::UpdatePodSandboxResourcesResponse, Status> {
    Err(not_built("UpdatePodSandboxResources"))
}
