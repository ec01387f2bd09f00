//! `cricket markdown`: the command line as Markdown, for web sites.

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Arg, Command};

use super::{CliError, print};

pub(super) fn command() -> Command {
    Command::new("markdown")
        .visible_alias("md")
        .about("Print the command line as Markdown")
}

pub(super) fn run() -> Result<ExitCode, CliError> {
    print(document().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn document() -> String {
    let mut command = super::command();
    command.build();
    let mut out = String::new();
    let about = command
        .get_long_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let _ = write!(out, "# cricket(8)\n\n{about}\n\n## Commands\n");
    for below in command.get_subcommands() {
        let about = below
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = write!(out, "\n### {}\n\n{about}.\n", below.get_name());
        options(
            &mut out,
            below.get_arguments().filter(|arg| !arg.is_global_set()),
        );
    }
    out.push_str("\n## Options\n");
    options(&mut out, command.get_arguments());
    out
}

fn options<'a>(out: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut first = true;
    for arg in arguments.filter(|arg| !arg.is_hide_set() && arg.get_id() != "help") {
        if std::mem::take(&mut first) {
            out.push('\n');
        }
        let short = arg
            .get_short()
            .map(|short| format!("`-{short}`, "))
            .unwrap_or_default();
        let name = match arg.get_long() {
            Some(long) => format!("{short}`--{long}`"),
            None => format!("`{}`", arg.get_id().as_str().to_uppercase()),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "- {name}: {help}");
    }
}
