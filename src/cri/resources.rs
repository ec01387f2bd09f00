//! New limits for a container that exists, and for a pod.

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::{of_sandbox, plain};
use super::{RuntimeApi, request};

pub(super) async fn update_container(
    api: &RuntimeApi,
    request: wire::UpdateContainerResourcesRequest,
) -> Result<wire::UpdateContainerResourcesResponse, Status> {
    let containers = api.sandboxes.containers();
    let wanted = request.linux.map(request::resources).unwrap_or_default();
    let updated = containers.update_resources(&request.container_id, wanted);
    updated.await.map_err(plain)?;
    Ok(wire::UpdateContainerResourcesResponse {})
}

pub(super) fn update_pod(
    api: &RuntimeApi,
    request: wire::UpdatePodSandboxResourcesRequest,
) -> Result<wire::UpdatePodSandboxResourcesResponse, Status> {
    let (overhead, resources) = (
        request.overhead.map(request::resources),
        request.resources.map(request::resources),
    );
    let noted = api
        .sandboxes
        .note_resources(&request.pod_sandbox_id, overhead, resources);
    noted.map_err(|error| of_sandbox(std::sync::Arc::new(error)))?;
    Ok(wire::UpdatePodSandboxResourcesResponse {})
}
