//! `cricket` without a subcommand: the daemon.

use super::CliError;
use crate::config::Loaded;

/// Runs the daemon until it is told to stop.
pub(super) fn run(loaded: Loaded) -> Result<(), CliError> {
    crate::daemon::run(loaded).map_err(|error| CliError::Daemon(Box::new(error)))
}
