//! `cricket doctor leaks`: what pods and containers have left behind that nobody owns.
//!
//! A running daemon is asked, because it lives where its things are. Without one the same rules are
//! applied here; `--fix` then takes the daemon's locks.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{FindLeaksRequest, FindLeaksResponse, Leak};
use serde_json::json;

use super::{CliError, client, converse, exit, load_config, print};
use crate::admin::leaks::{answer, told};
use crate::config::Loaded;
use crate::daemon;

/// Characters of an id in tables, as in crictl's.
const SHOWN_ID: usize = 13;
/// How long the daemon may take to look: it takes milliseconds, and a hanging one is not waited for.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to sweep: CNI plugins may be slow, one after the other.
const FIX_PATIENCE: Duration = Duration::from_secs(600);
/// Bytes of an answer: a hundred thousand leaks.
const MAX_ANSWER_BYTES: usize = 64 << 20;

pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Look after a node")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("leaks")
                .about("List what pods and containers have left behind, and sweep it")
                .long_about(
                    "Lists what cricket has made on this node and no pod or container owns any \
                     more: processes, mounts, namespaces, network attachments with their addresses \
                     and interfaces, control groups and directories. Whoever exists is told by the \
                     records; what is just being made or removed is not among it, and things of \
                     other runtimes, or of a cricket with another runroot, never are. The daemon \
                     sweeps by the same rules when it starts.\n\nWorks while the daemon runs and \
                     while it does not. The exit code is 0 when nothing is left, 1 when something \
                     is, 2 when it cannot be told.",
                )
                .arg(
                    Arg::new("fix")
                        .long("fix")
                        .action(ArgAction::SetTrue)
                        .help("Sweep what is found; the exit code is 1 when something stays"),
                )
                .arg(
                    Arg::new("json")
                        .long("json")
                        .action(ArgAction::SetTrue)
                        .help("Print JSON: leaks, swept and problems"),
                ),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let Some(("leaks", own)) = own.subcommand() else {
        return Err(CliError::UnknownCommand("doctor".to_owned()));
    };
    let loaded = load_config(matches)?;
    let found = match find(&loaded, own.get_flag("fix")) {
        Ok(found) => found,
        Err(error) => {
            exit::report(&error);
            return Ok(exit::not_told());
        }
    };
    let text = match own.get_flag("json") {
        true => format!("{:#}\n", as_json(&found)),
        false => table(&found),
    };
    print(text.as_bytes())?;
    Ok(match found.leaks.is_empty() && found.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => exit::failed(),
    })
}

/// Asks the daemon, or looks by itself when none has the places.
fn find(loaded: &Loaded, fix: bool) -> Result<FindLeaksResponse, CliError> {
    let socket = &loaded.config.api.listen;
    match converse(ask(socket, fix)) {
        Err(error @ CliError::NoDaemon { .. }) => {
            match daemon::is_running(loaded).map_err(boxed)? {
                true => Err(error.silent()),
                false => converse(look(loaded, fix)),
            }
        }
        asked => asked,
    }
}

async fn ask(socket: &Path, fix: bool) -> Result<FindLeaksResponse, CliError> {
    let channel = client::connect(socket).await?;
    let mut client = AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let asked = client.find_leaks(FindLeaksRequest { fix });
    let late = |_| {
        Err(tonic::Status::deadline_exceeded(
            "the daemon does not answer; does it hang?",
        ))
    };
    let patience = if fix { FIX_PATIENCE } else { LOOK_PATIENCE };
    let answer = tokio::time::timeout(patience, asked)
        .await
        .unwrap_or_else(late);
    let answer = answer.map_err(|status| CliError::Refused {
        what: "looking for leaks".to_owned(),
        message: status.message().to_owned(),
    })?;
    Ok(answer.into_inner())
}

async fn look(loaded: &Loaded, fix: bool) -> Result<FindLeaksResponse, CliError> {
    let alone = daemon::alone(loaded, fix).map_err(boxed)?;
    if fix {
        let mut swept = alone.leaks.fix().await.map_err(boxed)?;
        // Opening the store has moved to the trash what a daemon was building; it is deleted now.
        swept.left = alone.settled().await.map_err(boxed)?;
        swept.gone.retain(|leak| !swept.left.contains(leak));
        return Ok(answer(swept));
    }
    let found = alone.leaks.find().await.map_err(boxed)?;
    Ok(FindLeaksResponse {
        leaks: found.into_iter().map(told).collect(),
        ..FindLeaksResponse::default()
    })
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Daemon(Box::new(error))
}

fn as_json(found: &FindLeaksResponse) -> serde_json::Value {
    let all = |leaks: &[Leak]| -> Vec<serde_json::Value> {
        leaks
            .iter()
            .map(|leak| json!({"kind": leak.kind, "id": leak.id, "name": leak.name}))
            .collect()
    };
    json!({"leaks": all(&found.leaks), "swept": all(&found.swept), "problems": found.problems})
}

fn table(found: &FindLeaksResponse) -> String {
    let mut out = String::new();
    let mut list = |title: &str, leaks: &[Leak]| {
        if leaks.is_empty() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{title}");
        for leak in leaks {
            let id: String = leak.id.chars().take(SHOWN_ID).collect();
            let _ = writeln!(out, "  {:<13}  {id:<SHOWN_ID$}  {}", leak.kind, leak.name);
        }
    };
    list("swept:", &found.swept);
    list("without an owner:", &found.leaks);
    for problem in &found.problems {
        let _ = writeln!(out, "not swept: {problem}");
    }
    if found.leaks.is_empty() && found.swept.is_empty() && found.problems.is_empty() {
        out.push_str("nothing without an owner\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_swept_what_stays_and_why() {
        let leak = |kind: &str, name: &str| Leak {
            kind: kind.into(),
            id: "0123456789abcdef".into(),
            name: name.into(),
        };
        let found = FindLeaksResponse {
            leaks: vec![leak("mount", "/run/x")],
            swept: vec![leak("runtime state", "/run/runc/y")],
            problems: vec!["unmount /run/x: EBUSY".into()],
        };
        assert_eq!(
            table(&found),
            "swept:\n  runtime state  0123456789abc  /run/runc/y\nwithout an owner:\n  mount          \
             0123456789abc  /run/x\nnot swept: unmount /run/x: EBUSY\n"
        );
        assert_eq!(
            table(&FindLeaksResponse::default()),
            "nothing without an owner\n"
        );
    }
}
