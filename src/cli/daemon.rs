//! `cricket` without a subcommand: the daemon.

use super::CliError;
use crate::config::Loaded;

/// Runs the daemon until it is told to stop.
pub(super) fn run(_loaded: Loaded) -> Result<(), CliError> {
    Err(CliError::Daemon("this build has no daemon yet".into()))
}
