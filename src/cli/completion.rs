//! `cricket complete SHELL`: completions for the shell.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use super::{CliError, print};

pub(super) fn command() -> Command {
    Command::new("complete")
        .visible_alias("completion")
        .about("Print completions for bash, fish or zsh")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(["bash", "fish", "zsh"]),
        )
}

pub(super) fn run(own: &ArgMatches) -> Result<ExitCode, CliError> {
    let shell = match own.get_one::<String>("shell").map(String::as_str) {
        Some("fish") => Shell::Fish,
        Some("zsh") => Shell::Zsh,
        _ => Shell::Bash,
    };
    print(&script(shell))?;
    Ok(ExitCode::SUCCESS)
}

/// The completion script.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "cricket", &mut out);
    out
}
