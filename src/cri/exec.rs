//! Commands in a running container, and the streams into it and its pod.

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::{not_built, plain};
use super::{RuntimeApi, request};
use crate::container::ExecOutput;

pub(super) async fn sync(
    api: &RuntimeApi,
    request: wire::ExecSyncRequest,
) -> Result<wire::ExecSyncResponse, Status> {
    let wire::ExecSyncRequest {
        container_id,
        cmd,
        timeout,
    } = request;
    let limit = request::seconds(timeout);
    let containers = api.sandboxes.containers();
    let executed = containers.exec_sync(&container_id, &cmd, limit).await;
    let ExecOutput {
        stdout,
        stderr,
        exit_code,
    } = executed.map_err(plain)?;
    Ok(wire::ExecSyncResponse {
        stdout,
        stderr,
        exit_code,
    })
}

pub(super) fn exec(
    _api: &RuntimeApi,
    _request: wire::ExecRequest,
) -> Result<wire::ExecResponse, Status> {
    Err(not_built("Exec"))
}

pub(super) fn attach(
    _api: &RuntimeApi,
    _request: wire::AttachRequest,
) -> Result<wire::AttachResponse, Status> {
    Err(not_built("Attach"))
}

pub(super) fn port_forward(
    _api: &RuntimeApi,
    _request: wire::PortForwardRequest,
) -> Result<wire::PortForwardResponse, Status> {
    Err(not_built("PortForward"))
}
