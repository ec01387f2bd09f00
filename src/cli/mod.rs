//! The command line: one file per subcommand.

use std::process::ExitCode;

/// Runs the command line of this process and maps its outcome to an exit code.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
