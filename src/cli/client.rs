//! The way to the daemon for subcommands that ask it.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Channel;

use super::CliError;
use crate::cri;

/// How long the daemon may take to answer the connection. What it is then asked to do may take as
/// long as it takes, and ends with ^C.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the daemon's socket.
pub(super) async fn connect(socket: &Path) -> Result<Channel, CliError> {
    let no_daemon = |source| CliError::NoDaemon {
        socket: socket.to_owned(),
        source,
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, cri::connect(socket)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(no_daemon(Box::new(error))),
        Err(late) => Err(no_daemon(Box::new(late))),
    }
}
