//! The way to the daemon for subcommands that ask it.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::CliError;

/// How long the daemon may take to answer the connection. What it is then asked to do may take as
/// long as it takes, and ends with ^C.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the daemon's socket.
pub(super) async fn connect(socket: &Path) -> Result<Channel, CliError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let no_daemon = |source| CliError::NoDaemon {
        socket: socket.to_owned(),
        source,
    };
    // The name is only for HTTP's authority; the connector decides where it goes.
    let endpoint = Endpoint::from_static("http://localhost");
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(no_daemon(Box::new(error))),
        Err(late) => Err(no_daemon(Box::new(late))),
    }
}
