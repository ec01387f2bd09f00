//! Calls about a pod's life, its status, and the list of pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::of_sandbox;
use super::{RuntimeApi, answer, filter, request};

pub(super) async fn run(
    api: &RuntimeApi,
    request: wire::RunPodSandboxRequest,
) -> Result<wire::RunPodSandboxResponse, Status> {
    let config = request::pod_config(request.config)?;
    let id = api
        .sandboxes
        .run(config, request.runtime_handler)
        .await
        .map_err(of_sandbox)?;
    Ok(wire::RunPodSandboxResponse {
        pod_sandbox_id: id.to_string(),
    })
}

pub(super) async fn stop(
    api: &RuntimeApi,
    request: wire::StopPodSandboxRequest,
) -> Result<wire::StopPodSandboxResponse, Status> {
    let stopped = api.sandboxes.stop(&request.pod_sandbox_id).await;
    stopped.map_err(of_sandbox)?;
    Ok(wire::StopPodSandboxResponse {})
}

pub(super) async fn remove(
    api: &RuntimeApi,
    request: wire::RemovePodSandboxRequest,
) -> Result<wire::RemovePodSandboxResponse, Status> {
    let removed = api.sandboxes.remove(&request.pod_sandbox_id).await;
    removed.map_err(of_sandbox)?;
    Ok(wire::RemovePodSandboxResponse {})
}

pub(super) fn status(
    api: &RuntimeApi,
    request: wire::PodSandboxStatusRequest,
) -> Result<wire::PodSandboxStatusResponse, Status> {
    // Before anything is read: an event that tells more has a later time.
    let timestamp = api.sandboxes.event_time_ns();
    let found = api.sandboxes.find(&request.pod_sandbox_id);
    let record = found.map_err(|error| of_sandbox(Arc::new(error)))?.record();
    let containers_statuses = match timestamp {
        // The kubelet takes them from here only when it follows events.
        None => Vec::new(),
        Some(_) => {
            let containers = api.sandboxes.containers().of_pod(&record.id);
            let records = containers.iter().map(|container| container.record());
            records
                .map(|record| answer::container_status(&record))
                .collect()
        }
    };
    let mut info = BTreeMap::new();
    if request.verbose {
        let described = api.sandboxes.describe(&record).to_string();
        info.insert("info".to_owned(), described);
    }
    Ok(wire::PodSandboxStatusResponse {
        status: Some(answer::pod_status(&record)),
        info,
        containers_statuses,
        timestamp: timestamp.unwrap_or(0),
    })
}

pub(super) fn list(
    api: &RuntimeApi,
    request: wire::ListPodSandboxRequest,
) -> Result<wire::ListPodSandboxResponse, Status> {
    let items = items(api, request.filter)?.collect();
    Ok(wire::ListPodSandboxResponse { items })
}

/// The pods that a filter wants, of those there are now. An error when the filter is none.
pub(super) fn items(
    api: &RuntimeApi,
    wanted: Option<wire::PodSandboxFilter>,
) -> Result<impl Iterator<Item = wire::PodSandbox> + Send + use<>, Status> {
    filter::check_pods(wanted.as_ref())?;
    let all = api.sandboxes.all().into_iter();
    Ok(all
        .map(|sandbox| sandbox.record())
        .filter(move |record| filter::pod(record, wanted.as_ref()))
        .map(|record| answer::pod(&record)))
}
