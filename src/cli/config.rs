//! `cricket config`: the configuration in effect, the defaults, or what is wrong with it.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{CliError, exit, load_config, print};
use crate::config;
use crate::daemon::DaemonError;

pub(super) fn command() -> Command {
    Command::new("config")
        .about("Print the configuration in effect, where each value comes from, or what is wrong")
        .arg(
            Arg::new("default")
                .long("default")
                .action(ArgAction::SetTrue)
                .help("Print every key with its default and its meaning, whatever is configured"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .conflicts_with("default")
                .help(
                    "Only check: files, values, the programs that handlers need, seccomp and AppArmor \
                     profiles, the time zone, default mounts, registries.conf, policy.json with its keys, \
                     registries.d, certs.d and OCI hooks; the exit code is not 0 when there is anything to \
                     report",
                ),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    if own.get_flag("default") {
        print(config::default_file().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = load_config(matches)?;
    if own.get_flag("check") {
        return check(&loaded);
    }
    warn(&loaded.warnings);
    print(config::effective_file(&loaded).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn check(loaded: &config::Loaded) -> Result<ExitCode, CliError> {
    warn(&loaded.warnings);
    let handlers = crate::daemon::check_handlers(loaded).map_err(|error| match error {
        DaemonError::Config(error) => CliError::Config(error),
        error => CliError::Daemon(Box::new(error)),
    })?;
    warn(&handlers);
    let mut files = crate::daemon::check_annotations(loaded);
    files.extend(crate::daemon::check_profiles_and_files(loaded));
    files.extend(crate::daemon::check_image_files(loaded));
    files.extend(crate::daemon::check_hook_files(loaded));
    for problem in &files {
        eprintln!("warning: {problem}");
    }
    if loaded.warnings.is_empty() && handlers.is_empty() && files.is_empty() {
        print(b"the configuration is in order\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(exit::failed())
}

fn warn(warnings: &[config::Problem]) {
    for warning in warnings {
        eprintln!("warning: {}", warning.with_excerpt());
    }
}
