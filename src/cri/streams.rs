//! Exec, Attach and PortForward: what is asked for is checked, and the answer is a URL.

use std::sync::Arc;

use cricket_proto::cri as wire;
use tonic::Status;

use super::RuntimeApi;
use super::code::{invalid, of_sandbox, plain};
use crate::streaming::{StreamRequest, WantedStreams};

/// Most ports of one PortForward call: over WebSocket each has two of 255 channels.
const MAX_PORTS: usize = 100;

pub(super) async fn exec(
    api: &RuntimeApi,
    request: wire::ExecRequest,
) -> Result<wire::ExecResponse, Status> {
    let streams = WantedStreams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let wanted = wanted(&request.container_id, request.tty, streams)?;
    if request.cmd.is_empty() {
        return Err(invalid("cmd", "no command is given"));
    }
    let container = api.sandboxes.containers().running(&request.container_id);
    let container = container.map_err(plain)?;
    container.room_for_command().await.map_err(plain)?;
    let url = issue(
        api,
        StreamRequest::Exec {
            container: container.record().id.to_string(),
            command: request.cmd,
            terminal: request.tty,
            wanted,
        },
    )?;
    Ok(wire::ExecResponse { url })
}

pub(super) async fn attach(
    api: &RuntimeApi,
    request: wire::AttachRequest,
) -> Result<wire::AttachResponse, Status> {
    let streams = WantedStreams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let wanted = wanted(&request.container_id, request.tty, streams)?;
    let container = api.sandboxes.containers().alive(&request.container_id);
    let container = container.map_err(plain)?;
    container.room_for_client().await.map_err(plain)?;
    let url = issue(
        api,
        StreamRequest::Attach {
            container: container.record().id.to_string(),
            terminal: request.tty,
            wanted,
        },
    )?;
    Ok(wire::AttachResponse { url })
}

pub(super) fn port_forward(
    api: &RuntimeApi,
    request: wire::PortForwardRequest,
) -> Result<wire::PortForwardResponse, Status> {
    required("pod_sandbox_id", &request.pod_sandbox_id)?;
    if request.port.len() > MAX_PORTS {
        return Err(invalid("port", &format!("more than {MAX_PORTS} ports")));
    }
    let port = |port: i32| match u16::try_from(port) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(invalid("port", &format!("{port} is not a port"))),
    };
    let ports = request.port.into_iter().map(port).collect::<Result<_, _>>();
    let ports = ports?;
    let sandbox = api.sandboxes.ready(&request.pod_sandbox_id);
    let sandbox = sandbox.map_err(|error| of_sandbox(Arc::new(error)))?;
    let url = issue(
        api,
        StreamRequest::PortForward {
            sandbox: sandbox.record().id.to_string(),
            ports,
        },
    )?;
    Ok(wire::PortForwardResponse { url })
}

fn issue(api: &RuntimeApi, request: StreamRequest) -> Result<String, Status> {
    let url = api.streaming.issue(request);
    url.map_err(|error| Status::resource_exhausted(error.to_string()))
}

/// The streams that are asked for, which must be some that there can be.
fn wanted(container: &str, tty: bool, wanted: WantedStreams) -> Result<WantedStreams, Status> {
    required("container_id", container)?;
    if tty && wanted.stderr {
        let problem = "tty and stderr cannot both be true: a terminal has one output";
        return Err(invalid("stderr", problem));
    }
    if wanted == WantedStreams::default() {
        return Err(invalid(
            "stdin, stdout, stderr",
            "one of them must be true, or there is nothing to stream",
        ));
    }
    Ok(wanted)
}

fn required(field: &str, id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(invalid(field, "is missing"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn what_cannot_be_streamed_is_refused_and_named() {
        let streams = |stdin, stdout, stderr| WantedStreams {
            stdin,
            stdout,
            stderr,
        };
        for (id, tty, asked, word) in [
            ("", false, streams(true, true, true), "container_id"),
            ("c", true, streams(true, true, true), "tty and stderr"),
            ("c", false, streams(false, false, false), "stdin, stdout"),
            ("c", true, streams(false, false, false), "stdin, stdout"),
        ] {
            let status = wanted(id, tty, asked).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(word), "{status:?}");
        }
        for (tty, asked) in [
            (false, streams(false, false, true)),
            (true, streams(true, true, false)),
        ] {
            assert_eq!(wanted("c", tty, asked).unwrap(), asked);
        }
    }
}
