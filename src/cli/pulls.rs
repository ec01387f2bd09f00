//! `cricket pulls`: the pulls in flight, whoever started them, and how the last ones ended.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{Pull, PullLayer, PullWait, WatchPullsRequest};
use serde_json::json;

use super::amount::{bytes, time};
use super::progress::{Lines, Screen, Totals, is_over, layer_phase, phase, silence, size};
use super::{CliError, client, converse, format, load_config, print};
use crate::sys::clock;

/// Bytes of a message: some ten thousand layers.
const MAX_ANSWER_BYTES: usize = 16 << 20;

pub(super) fn command() -> Command {
    Command::new("pulls")
        .about("Show the pulls in flight, what they wait for, and how the last ones ended")
        .arg(
            Arg::new("watch")
                .long("watch")
                .short('w')
                .action(ArgAction::SetTrue)
                .help("Go on showing them until ^C"),
        )
        .arg(format::flag(
            "table, or json with sizes in bytes (with --watch, a document a line)",
        ))
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let socket = load_config(matches)?.config.api.listen;
    let is_json = format::is_json(own);
    let view = match (is_json, own.get_flag("watch")) {
        (true, watch) => View::Json { watch },
        (false, false) => View::Table,
        (false, true) if std::io::stdout().is_terminal() => View::Screen(Screen::default()),
        (false, true) => View::Lines(None),
    };
    converse(show(&socket, view))?;
    Ok(ExitCode::SUCCESS)
}

/// How they are shown.
enum View {
    Table,
    Json { watch: bool },
    Screen(Screen),
    Lines(Option<Lines>),
}

async fn show(socket: &Path, mut view: View) -> Result<(), CliError> {
    let refused = |status: tonic::Status| CliError::Refused {
        what: "asking for pulls".to_owned(),
        message: status.message().to_owned(),
    };
    let client = AdminServiceClient::new(client::connect(socket).await?);
    let mut client = client.max_decoding_message_size(MAX_ANSWER_BYTES);
    let request = WatchPullsRequest {
        number: 0,
        once: matches!(view, View::Table | View::Json { watch: false }),
    };
    let answers = client.watch_pulls(request).await;
    let mut answers = answers.map_err(refused)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(refused)? {
        let text = view.text(&answer.pulls, clock::now_ns());
        let mut out = std::io::stdout().lock();
        // a reader that has gone ends this too
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            break;
        }
    }
    print(b"")
}

impl View {
    fn text(&mut self, pulls: &[Pull], now_ns: i64) -> String {
        match self {
            View::Table => table(pulls, now_ns).join("\n") + "\n",
            View::Json { watch: false } => format!("{:#}\n", as_json(pulls)),
            View::Json { watch: true } => format!("{}\n", as_json(pulls)),
            View::Screen(screen) => {
                let size = size(&std::io::stdout());
                screen.draw(&table(pulls, now_ns), size)
            }
            View::Lines(lines) => {
                let first = lines.is_none();
                let lines = lines.get_or_insert_default();
                lines.keep(pulls, first);
                pulls.iter().map(|pull| lines.of(pull)).collect()
            }
        }
    }
}

/// A row for each pull, with lines below it for what it waits for and why it failed.
fn table(pulls: &[Pull], now_ns: i64) -> Vec<String> {
    let titles = ["IMAGE", "STATE", "PROGRESS", "RATE", "LEFT", "TIME", "FOR"];
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(pulls.iter().map(|pull| row(pull, now_ns)));
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&rows[0])];
    for (pull, row) in pulls.iter().zip(&rows[1..]) {
        lines.push(line(row));
        if pull.phase() == cricket_proto::admin::PullPhase::PullFailed {
            lines.push(format!("  {}", pull.outcome));
        }
        let waits = pull.waits_for.iter().filter_map(silence);
        lines.extend(waits.map(|told| format!("  {told}")));
    }
    lines
}

fn row(pull: &Pull, now_ns: i64) -> [String; 7] {
    let totals = Totals::of(pull);
    let none = || "-".to_owned();
    let state = match is_over(pull) {
        true => format!("{} {} ago", phase(pull), time(ago_ms(pull, now_ns))),
        false => phase(pull).to_owned(),
    };
    let progress = match (is_over(pull), totals.size) {
        (true, _) => bytes(pull.fetched_bytes),
        (false, 0) => none(),
        (false, size) => format!("{}/{}", bytes(totals.fetched), bytes(size)),
    };
    let rate = match totals.rate {
        0 => none(),
        rate => format!("{}/s", bytes(rate)),
    };
    let callers = match (pull.callers.join(", "), pull.more_callers) {
        (callers, 0) if callers.is_empty() => none(),
        (callers, 0) => callers,
        (callers, more) => format!("{callers} and {more} more"),
    };
    let left = totals.left_ms().map_or_else(none, time);
    let elapsed = time(pull.elapsed_ms);
    [
        pull.reference.clone(),
        state,
        progress,
        rate,
        left,
        elapsed,
        callers,
    ]
}

/// How long ago it ended.
fn ago_ms(pull: &Pull, now_ns: i64) -> u64 {
    let since_begin = u64::try_from(now_ns.saturating_sub(pull.began_ns)).unwrap_or(0);
    (since_begin / 1_000_000).saturating_sub(pull.elapsed_ms)
}

fn as_json(pulls: &[Pull]) -> serde_json::Value {
    let wait = |wait: &PullWait| json!({"on": wait.on, "silentMs": wait.silent_ms, "againInMs": wait.again_in_ms});
    let layer = |layer: &PullLayer| {
        json!({
            "digest": layer.digest, "state": layer_phase(layer),
            "sizeBytes": layer.size_bytes, "fetchedBytes": layer.fetched_bytes,
            "unpackedBytes": layer.unpacked_bytes, "bytesPerSecond": layer.bytes_per_second,
            "waitsFor": layer.waits_for.as_ref().map(wait),
        })
    };
    let pull = |pull: &Pull| {
        json!({
            "number": pull.number, "reference": pull.reference, "trying": pull.trying,
            "state": phase(pull), "outcome": pull.outcome,
            "callers": pull.callers, "moreCallers": pull.more_callers,
            "beganNs": pull.began_ns, "elapsedMs": pull.elapsed_ms,
            "fetchedBytes": pull.fetched_bytes,
            "layers": pull.layers.iter().map(layer).collect::<Vec<_>>(),
            "waitsFor": pull.waits_for.iter().map(wait).collect::<Vec<_>>(),
        })
    };
    json!({ "pulls": pulls.iter().map(pull).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use cricket_proto::admin::PullPhase;

    use super::super::progress::samples;
    use super::*;

    #[test]
    fn a_table_tells_what_is_waited_for_and_why_something_failed() {
        let mut failed = samples::pull();
        failed.reference = "r.example/other:2".into();
        failed.set_phase(PullPhase::PullFailed);
        failed.outcome = "RegistryUnavailable: r.example/other: gone".into();
        failed.layers.clear();
        failed.waits_for.clear();
        failed.callers.clear();
        let want = "\
IMAGE              STATE           PROGRESS       RATE      LEFT  TIME  FOR
r.example/app:1    fetching        16.0MB/50.0MB  2.00MB/s  17s   4.2s  pod web/nginx
  12s without a byte from https://r.example/v2/app/blobs/sha256:dd
r.example/other:2  failed 55s ago  16.0MB         -         -     4.2s  -
  RegistryUnavailable: r.example/other: gone";
        let table = table(&[samples::pull(), failed], 60_000_000_000);
        assert_eq!(table.join("\n"), want);
    }

    #[test]
    fn a_registry_that_said_later_is_shown_with_the_time_that_is_left() {
        let mut pull = samples::pull();
        pull.set_phase(PullPhase::PullWaiting);
        pull.layers.clear();
        let wait = &mut pull.waits_for[0];
        (wait.silent_ms, wait.again_in_ms) = (100, Some(41_000));
        let table = table(&[pull.clone()], 0).join("\n");
        let told = "  asked again in 41s, as it wishes: https://r.example/v2/app/blobs/sha256:dd";
        assert!(
            table.contains("waiting") && table.ends_with(told),
            "{table}"
        );
        let json = as_json(&[pull]);
        assert_eq!(json["pulls"][0]["waitsFor"][0]["againInMs"], 41_000);
    }

    #[test]
    fn json_has_every_layer() {
        let json = as_json(&[samples::pull()]);
        assert_eq!(json["pulls"][0]["state"], "fetching");
        assert_eq!(
            json["pulls"][0]["layers"][3]["waitsFor"]["silentMs"],
            12_300
        );
    }

    #[test]
    fn watching_lines_begin_with_what_is_in_flight() {
        let mut done = samples::pull();
        done.number = 2;
        done.set_phase(PullPhase::PullDone);
        let mut view = View::Lines(None);
        let first = view.text(&[samples::pull(), done.clone()], 0);
        assert!(
            first.starts_with("r.example/app:1: fetching 4 of 5"),
            "{first}"
        );
        assert!(!first.contains(": done"), "{first}");
        done.number = 3;
        done.outcome = "abc".into();
        assert_eq!(
            view.text(&[done], 0),
            "r.example/app:1: done after 4.2s: abc\n"
        );
    }
}
