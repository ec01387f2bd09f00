//! `cricket version` and `--version`.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use super::{CliError, print};

/// Version of the CRI that is answered.
const CRI: &str = "v1";

pub(super) fn command() -> Command {
    Command::new("version").about("Print the version").arg(
        Arg::new("json")
            .long("json")
            .short('j')
            .action(ArgAction::SetTrue)
            .help("Print it as JSON"),
    )
}

/// `--version`, with CRI-O's `-v` where clap would have `-V`.
pub(super) fn flag() -> Arg {
    Arg::new("version")
        .long("version")
        .short('v')
        .action(ArgAction::Version)
        .help("Print the version")
}

pub(super) fn run(own: &ArgMatches) -> Result<ExitCode, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let text = if own.get_flag("json") {
        let document = json!({ "version": version, "cri": CRI, "platform": platform });
        format!("{document:#}\n")
    } else {
        format!("cricket {version}\ncri: {CRI}\nplatform: {platform}\n")
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
