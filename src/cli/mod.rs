//! The command line: one file per subcommand.
//!
//! Without a subcommand the process is the daemon. The flags are those of the configuration's
//! tables ([`flags`]); what a subcommand prints goes to standard output, an error to standard error
//! once, as one chain, and its exit code stands in [`exit`].

mod amount;
mod check;
mod client;
mod completion;
mod config;
mod daemon;
mod doctor;
mod exit;
mod flags;
mod format;
mod images;
mod load;
mod man;
mod markdown;
mod operations;
mod policy;
mod progress;
mod pull;
mod pulls;
mod rmi;
mod save;
mod save_target;
mod stop;
mod version;
mod wipe;

#[cfg(test)]
mod generated;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::config::{Loaded, Sources};

pub use exit::CliError;

/// Runs the command line of this process and maps its outcome to an exit code.
pub fn run() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too, with code 0; nothing is left to do about a
            // standard error that cannot be written.
            let _ = error.print();
            return exit::usage(&error);
        }
    };
    match dispatch(&matches) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode, CliError> {
    match matches.subcommand() {
        None => daemon::run(load_config(matches)?).map(|()| ExitCode::SUCCESS),
        Some(("check", own)) => check::run(matches, own),
        Some(("config", own)) => config::run(matches, own),
        Some(("doctor", own)) => doctor::run(matches, own),
        Some(("images", own)) => images::run(matches, own),
        Some(("load", own)) => load::run(matches, own),
        Some(("operations", own)) => operations::run(matches, own),
        Some(("policy", own)) => policy::run(matches, own),
        Some(("pull", own)) => pull::run(matches, own),
        Some(("pulls", own)) => pulls::run(matches, own),
        Some(("rmi", own)) => rmi::run(matches, own),
        Some(("save", own)) => save::run(matches, own),
        Some(("stop", own)) => stop::run(matches, own),
        Some(("wipe", own)) => wipe::run(matches, own),
        Some(("version", own)) => version::run(own),
        Some(("complete", own)) => completion::run(own),
        Some(("man", own)) => man::run(own),
        Some(("markdown", _)) => markdown::run(),
        Some((name, _)) => Err(CliError::UnknownCommand(name.to_owned())),
    }
}

/// The tree of commands and flags.
pub fn command() -> Command {
    Command::new("cricket")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kubernetes container runtime: pods and containers for the kubelet")
        .long_about(
            "cricket answers the kubelet's Container Runtime Interface on a unix socket: it pulls \
             images, and runs pods and containers with an OCI runtime such as runc or crun and \
             with CNI plugins. Without a command it is the daemon and runs until SIGTERM.\n\n\
             It reads CRI-O's configuration, crio.conf(5), and takes CRI-O's flags and variables.",
        )
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(false)
        .args(flags::all())
        .arg(version::flag())
        .subcommand(check::command())
        .subcommand(config::command())
        .subcommand(doctor::command())
        .subcommand(images::command())
        .subcommand(load::command())
        .subcommand(operations::command())
        .subcommand(policy::command())
        .subcommand(pull::command())
        .subcommand(pulls::command())
        .subcommand(rmi::command())
        .subcommand(save::command())
        .subcommand(stop::command())
        .subcommand(version::command())
        .subcommand(wipe::command())
        .subcommand(completion::command())
        .subcommand(man::command())
        .subcommand(markdown::command())
}

/// The configuration for the flags of this command line.
fn load_config(matches: &ArgMatches) -> Result<Loaded, CliError> {
    let sources = Sources::of_process(flags::given(matches), crate::daemon::has_selinux());
    Ok(crate::config::load(&sources)?)
}

/// Runs a conversation with the daemon on this thread.
fn converse<T>(conversation: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    runtime.block_on(conversation)
}

/// Writes to standard output. A reader that has gone (`cricket config | head`) is no error.
fn print(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_the_shared_ones_after_a_subcommand() {
        let parse = |args: &[&str]| flags::given(&command().try_get_matches_from(args).unwrap());
        let before = parse(&["cricket", "--listen", "/run/a.sock", "--root=/r", "config"]);
        assert_eq!(before["listen"], ["/run/a.sock"]);
        assert_eq!(before["root"], ["/r"]);
        let after = parse(&["cricket", "load", "--listen", "/run/b.sock", "image.tar"]);
        assert_eq!(after["listen"], ["/run/b.sock"]);
        let none = parse(&["cricket"]);
        assert!(none.is_empty(), "{none:?}");
    }

    #[test]
    fn switches_take_no_value_or_one_behind_an_equals_sign() {
        let parse = |args: &[&str]| flags::given(&command().try_get_matches_from(args).unwrap());
        assert_eq!(parse(&["cricket", "--read-only"])["read-only"], ["true"]);
        assert_eq!(
            parse(&["cricket", "--read-only=false"])["read-only"],
            ["false"]
        );
        let lists = parse(&[
            "cricket",
            "--cni-plugin-dir",
            "/a,/b",
            "--cni-plugin-dir=/c",
        ]);
        assert_eq!(lists["cni-plugin-dir"], ["/a,/b", "/c"]);
    }

    #[test]
    fn unknown_flags_and_commands_are_usage_errors() {
        for args in [["cricket", "--roooot"], ["cricket", "statuss"]] {
            let error = command().try_get_matches_from(args).unwrap_err();
            assert_eq!(error.exit_code(), 2);
        }
    }
}
