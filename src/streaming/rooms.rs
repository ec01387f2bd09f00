//! The far ends of streams: what a command, a container and a pod's port are to a protocol.

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::container::{ContainerError, Containers, Streams};
use crate::sandbox::{SandboxError, Sandboxes};

/// What the protocols need of what they connect clients to.
pub trait FarEnds: Send + Sync {
    /// Runs a command in a container and returns its exit code when it has ended and all of its
    /// output is written and shut down. When the future is dropped, the client has gone away.
    fn exec(
        &self,
        container: &str,
        command: &[String],
        terminal: bool,
        streams: Streams,
    ) -> impl Future<Output = Result<i32, ContainerError>> + Send;

    /// Joins a container's streams and returns when the container has ended and all of its output
    /// is written and shut down. When the future is dropped, the client has gone away.
    fn attach(
        &self,
        container: &str,
        streams: Streams,
    ) -> impl Future<Output = Result<(), ContainerError>> + Send;

    /// Connects to a port in a pod's network namespace.
    fn dial(
        &self,
        sandbox: &str,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, SandboxError>> + Send;
}

/// The rooms that streams lead to.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Commands and containers.
    pub containers: Arc<Containers>,
    /// Ports of pods.
    pub sandboxes: Arc<Sandboxes>,
}

impl FarEnds for Rooms {
    async fn exec(
        &self,
        container: &str,
        command: &[String],
        terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        self.containers
            .exec_stream(container, command, terminal, streams)
            .await
    }

    async fn attach(&self, container: &str, streams: Streams) -> Result<(), ContainerError> {
        self.containers.attach(container, streams).await
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<TcpStream, SandboxError> {
        self.sandboxes.dial(sandbox, port).await
    }
}
