//! Calls about a container's life, its status and log, and the list of containers.

use std::collections::BTreeMap;

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::{invalid, of_container, of_sandbox, plain};
use super::{RuntimeApi, answer, filter, request};

pub(super) async fn create(
    api: &RuntimeApi,
    request: wire::CreateContainerRequest,
) -> Result<wire::CreateContainerResponse, Status> {
    // What the pod is like is known, but a caller who leaves it out has made a mistake.
    if request.sandbox_config.is_none() {
        return Err(invalid("sandbox_config", "is missing"));
    }
    let config = request::container_config(request.config)?;
    let created = api
        .sandboxes
        .create_container(&request.pod_sandbox_id, config)
        .await;
    Ok(wire::CreateContainerResponse {
        container_id: created.map_err(of_sandbox)?.to_string(),
    })
}

pub(super) async fn start(
    api: &RuntimeApi,
    request: wire::StartContainerRequest,
) -> Result<wire::StartContainerResponse, Status> {
    let containers = api.sandboxes.containers();
    let started = containers.start(&request.container_id).await;
    started.map_err(of_container)?;
    Ok(wire::StartContainerResponse {})
}

pub(super) async fn stop(
    api: &RuntimeApi,
    request: wire::StopContainerRequest,
) -> Result<wire::StopContainerResponse, Status> {
    let grace = request::seconds(request.timeout).unwrap_or_default();
    let containers = api.sandboxes.containers();
    let stopped = containers.stop(&request.container_id, grace).await;
    stopped.map_err(of_container)?;
    Ok(wire::StopContainerResponse {})
}

pub(super) async fn remove(
    api: &RuntimeApi,
    request: wire::RemoveContainerRequest,
) -> Result<wire::RemoveContainerResponse, Status> {
    let containers = api.sandboxes.containers();
    let removed = containers.remove(&request.container_id).await;
    removed.map_err(of_container)?;
    Ok(wire::RemoveContainerResponse {})
}

pub(super) fn status(
    api: &RuntimeApi,
    request: wire::ContainerStatusRequest,
) -> Result<wire::ContainerStatusResponse, Status> {
    let containers = api.sandboxes.containers();
    let found = containers.find(&request.container_id);
    let record = found.map_err(plain)?.record();
    let mut info = BTreeMap::new();
    if request.verbose {
        info.insert("info".to_owned(), containers.describe(&record).to_string());
    }
    Ok(wire::ContainerStatusResponse {
        status: Some(answer::container_status(&record)),
        info,
    })
}

pub(super) fn list(
    api: &RuntimeApi,
    request: wire::ListContainersRequest,
) -> Result<wire::ListContainersResponse, Status> {
    let containers = items(api, request.filter)?.collect();
    Ok(wire::ListContainersResponse { containers })
}

/// The containers that a filter wants, of those there are now. An error when the filter is none.
pub(super) fn items(
    api: &RuntimeApi,
    wanted: Option<wire::ContainerFilter>,
) -> Result<impl Iterator<Item = wire::Container> + Send + use<>, Status> {
    filter::check_containers(wanted.as_ref())?;
    let all = api.sandboxes.containers().all().into_iter();
    Ok(all
        .map(|container| container.record())
        .filter(move |record| filter::container(record, wanted.as_ref()))
        .map(|record| answer::container(&record)))
}

pub(super) async fn reopen_log(
    api: &RuntimeApi,
    request: wire::ReopenContainerLogRequest,
) -> Result<wire::ReopenContainerLogResponse, Status> {
    let containers = api.sandboxes.containers();
    let reopened = containers.reopen_log(&request.container_id).await;
    reopened.map_err(plain)?;
    Ok(wire::ReopenContainerLogResponse {})
}
