//! `cricket wipe`: removes everything that cricket keeps on this node, when somebody asks for it. Nothing
//! else ever does: no reboot, no upgrade, no failed check.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::amount::bytes;
use super::{CliError, converse, load_config, print};
use crate::config::Loaded;
use crate::daemon::{self, Wipe};

pub(super) fn command() -> Command {
    Command::new("wipe")
        .about("Remove all images, containers and pods of this node, after asking")
        .long_about(
            "Removes everything that cricket keeps on this node: images, layers, containers and \
             pods with what is left of them in the kernel, and what was set aside. Lists it first \
             and asks. Neither the daemon nor a container may run, but for those whose record was \
             set aside, which are ended.\n\nOther than CRI-O's, this \
             command looks at no version file: without a person at a terminal or --force it \
             removes nothing.",
        )
        .arg(
            Arg::new("force")
                .long("force")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Do not ask"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let loaded = load_config(matches)?;
    converse(wipe(&loaded, own.get_flag("force")))?;
    Ok(ExitCode::SUCCESS)
}

async fn wipe(loaded: &Loaded, force: bool) -> Result<(), CliError> {
    let refused = |message: String| CliError::Refused {
        what: "wipe".to_owned(),
        message,
    };
    let boxed = |error: daemon::DaemonError| CliError::Daemon(Box::new(error));
    if daemon::is_running(loaded).map_err(boxed)? {
        return Err(refused("the daemon runs; stop it first".to_owned()));
    }
    let wipe = Wipe::prepare(loaded).map_err(boxed)?;
    if let [first, rest @ ..] = &wipe.running[..] {
        let more = match rest.len() {
            0 => String::new(),
            count => format!(" and {count} more processes"),
        };
        return Err(refused(format!(
            "{first}{more} of pods run; start the daemon and remove the pods (crictl rmp -fa), then \
             stop it and wipe"
        )));
    }
    print(listed(&wipe).as_bytes())?;
    if wipe.is_empty() {
        return Ok(());
    }
    if !force && !is_wanted()? {
        let message = "nothing was removed: it has to be confirmed with `yes`, or by --force";
        return Err(refused(message.to_owned()));
    }
    let problems = wipe.run(loaded).await.map_err(boxed)?;
    match problems.is_empty() {
        true => print(b"wiped\n"),
        false => Err(refused(format!(
            "not everything was removed: {}",
            problems.join("; ")
        ))),
    }
}

/// Asks whoever sits at the terminal.
fn is_wanted() -> Result<bool, CliError> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(false);
    }
    print(b"remove all this? Write `yes`: ")?;
    let mut answer = String::new();
    input
        .lock()
        .read_line(&mut answer)
        .map_err(CliError::Output)?;
    Ok(answer.trim() == "yes")
}

fn listed(wipe: &Wipe) -> String {
    if wipe.is_empty() {
        return "there is nothing to remove\n".to_owned();
    }
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("below {}:", wipe.places.join(", ")));
    for (count, what) in [
        (wipe.images.len(), "images"),
        (wipe.layers, "layers"),
        (wipe.roots, "root filesystems of containers"),
        (wipe.containers, "records of containers"),
        (wipe.pods, "records of pods"),
        (wipe.aside, "things that were set aside"),
    ] {
        if count > 0 {
            line(format_args!("  {count} {what}"));
        }
    }
    for image in &wipe.images {
        line(format_args!("    {image}"));
    }
    for process in &wipe.ending {
        line(format_args!("  ends {process}, whose record was set aside"));
    }
    line(format_args!("{} on disk in all", bytes(wipe.bytes)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_removed_is_counted_and_named() {
        let mut wipe = Wipe::default();
        wipe.places = vec!["/var/lib/c/cricket".into()];
        wipe.images = vec!["docker.io/library/a:1".into()];
        (wipe.layers, wipe.pods, wipe.bytes) = (3, 2, 5_000_000);
        let text = listed(&wipe);
        assert_eq!(
            text,
            "below /var/lib/c/cricket:\n  1 images\n  3 layers\n  2 records of pods\n    \
             docker.io/library/a:1\n5.00MB on disk in all\n"
        );
        assert_eq!(listed(&Wipe::default()), "there is nothing to remove\n");
    }
}
