//! Commands in a running container whose output is the answer.

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::plain;
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
