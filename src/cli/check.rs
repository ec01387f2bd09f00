//! `cricket check`: whether store, layers and records are as they should be, and repairing them.
//!
//! A running daemon checks itself, because only it knows what comes and goes meanwhile. The flags are
//! those of `crio check`, as far as they mean something here.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use cricket_proto::admin::admin_service_client::AdminServiceClient;
use cricket_proto::admin::{CheckReport, CheckStoreRequest, CheckStoreUpdate, Finding};
use serde_json::json;

use super::amount::bytes;
use super::{CliError, client, converse, exit, load_config, print};
use crate::admin::check::{so_far, told};
use crate::config::{Loaded, duration};
use crate::daemon;
use crate::storage::Depth;

/// Bytes of an answer: a hundred thousand findings.
const MAX_ANSWER_BYTES: usize = 64 << 20;

pub(super) fn command() -> Command {
    let switch = |name: &'static str, short: char, help: &'static str| {
        Arg::new(name)
            .long(name)
            .short(short)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("check")
        .about("Verify images, layers and records, and repair by removing what is broken")
        .long_about(
            "Verifies every layer against its digest, images with manifest, configuration and \
             signatures, root filesystems of containers, and the records of pods and containers. \
             Changes nothing unless --repair is given. Of layers every file is compared with \
             the tar that it came from: content, owner, mode, link, device, extended attributes, \
             whiteouts; not times. Where an entry of the tar replaced another, and in layers of \
             versions before this check, it is content and number alone.\n\n\
             Works while the daemon runs, which then does it, and while it does not. The exit code \
             is 0 when everything is in order or was repaired, 1 when something is wrong, 2 when it \
             cannot be told.",
        )
        .arg(switch(
            "quick",
            'q',
            "Read records and documents only, not every byte of every layer",
        ))
        .arg(switch(
            "repair",
            'r',
            "Remove damaged images; layers that others share intact stay, and so does what a \
             container uses",
        ))
        .arg(switch(
            "force",
            'f',
            "With --repair: also end and remove damaged containers, and those that use a damaged \
             image; needs the daemon",
        ))
        .arg(
            Arg::new("age")
                .long("age")
                .short('a')
                .value_name("DURATION")
                .default_value("24h")
                .help("Tell of layers without an image that are older than this"),
        )
        .arg(switch(
            "wipe",
            'w',
            "Accepted for CRI-O's sake and without effect: a failed repair is no reason to remove \
             what is whole; cricket wipe removes everything",
        ))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON"),
        )
}

pub(super) fn run(matches: &ArgMatches, own: &ArgMatches) -> Result<ExitCode, CliError> {
    let loaded = load_config(matches)?;
    let request = CheckStoreRequest {
        quick: own.get_flag("quick"),
        repair: own.get_flag("repair"),
        force: own.get_flag("force"),
    };
    if own.get_flag("wipe") {
        eprintln!("cricket: --wipe has no effect; `cricket wipe` removes everything");
    }
    let age = own.get_one::<String>("age").map_or("", String::as_str);
    let report = age_of(age).and_then(|age| Ok((age, check(&loaded, request)?)));
    let (age, report) = match report {
        Ok(report) => report,
        Err(error) => {
            exit::report(&error);
            return Ok(exit::not_told());
        }
    };
    let text = match own.get_flag("json") {
        true => format!("{:#}\n", as_json(&report)),
        false => shown(&report, age),
    };
    print(text.as_bytes())?;
    let stays = report.findings.iter().any(|finding| !finding.repaired);
    Ok(if stays {
        exit::failed()
    } else {
        ExitCode::SUCCESS
    })
}

fn age_of(text: &str) -> Result<Duration, CliError> {
    duration(text).ok_or_else(|| CliError::Refused {
        what: format!("--age {text}"),
        message: "not a duration; write 24h, 30m or 90s".to_owned(),
    })
}

fn check(loaded: &Loaded, request: CheckStoreRequest) -> Result<CheckReport, CliError> {
    match converse(ask(&loaded.config.api.listen, request)) {
        Err(error @ CliError::NoDaemon { .. }) => {
            match daemon::is_running(loaded).map_err(boxed)? {
                true => Err(error.silent()),
                false => converse(by_itself(loaded, request)),
            }
        }
        asked => asked,
    }
}

async fn ask(socket: &Path, request: CheckStoreRequest) -> Result<CheckReport, CliError> {
    let refused = |message: String| CliError::Refused {
        what: "checking".to_owned(),
        message,
    };
    let status = |status: tonic::Status| refused(status.message().to_owned());
    let channel = client::connect(socket).await?;
    let mut client = AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let mut updates = client
        .check_store(request)
        .await
        .map_err(status)?
        .into_inner();
    let mut teller = Teller::new();
    while let Some(update) = updates.message().await.map_err(status)? {
        match update.report {
            Some(report) => return Ok(report),
            None => teller.tell(&update),
        }
    }
    Err(refused("the daemon ended before it was done".to_owned()))
}

async fn by_itself(loaded: &Loaded, request: CheckStoreRequest) -> Result<CheckReport, CliError> {
    // Looked at before the store is opened, which would sweep.
    let _lock = daemon::lock(loaded).map_err(boxed)?;
    let checkup = daemon::checkup_alone(loaded);
    let depth = if request.quick {
        Depth::Quick
    } else {
        Depth::Full
    };
    let mut teller = Teller::new();
    let mut watch = |progress| {
        teller.tell(&so_far(progress));
        true
    };
    let mut report = checkup.check(depth, &mut watch).map_err(boxed)?;
    if request.repair {
        let store = daemon::open_store(loaded).map_err(boxed)?;
        checkup.repair(&mut report, &store, request.force).await;
        store.settle(daemon::SETTLE);
    }
    Ok(told(report))
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Daemon(Box::new(error))
}

/// Says on a terminal how far it has come.
struct Teller {
    is_terminal: bool,
}

impl Teller {
    fn new() -> Self {
        use std::io::IsTerminal;
        Self {
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, update: &CheckStoreUpdate) {
        if self.is_terminal {
            let end = if update.layers == update.of { "\n" } else { "" };
            let read = bytes(update.bytes);
            eprint!(
                "\r{} of {} layers, {read} read{end}",
                update.layers, update.of
            );
        }
    }
}

fn as_json(report: &CheckReport) -> serde_json::Value {
    let finding = |finding: &Finding| {
        json!({
            "what": finding.what,
            "problem": finding.problem,
            "affects": finding.affects,
            "remedy": finding.remedy,
            "repaired": finding.repaired,
            "outcome": finding.outcome,
        })
    };
    let unreferenced = report.unreferenced.iter();
    let unreferenced =
        unreferenced.map(|layer| json!({"id": layer.id, "ageSeconds": layer.age_seconds}));
    json!({
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "images": report.images,
        "layers": report.layers,
        "bytes": report.bytes,
        "roots": report.roots,
        "records": report.records,
        "unverifiable": report.unverifiable,
        "byContent": report.by_content,
        "unreferenced": unreferenced.collect::<Vec<_>>(),
    })
}

fn shown(report: &CheckReport, age: Duration) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    for finding in &report.findings {
        line(format_args!("{}: {}", finding.what, finding.problem));
        for affected in &finding.affects {
            line(format_args!("  affects {affected}"));
        }
        match (finding.repaired, finding.outcome.as_str()) {
            (true, outcome) => line(format_args!("  repaired: {outcome}")),
            (false, "") => line(format_args!("  {}", finding.remedy)),
            (false, outcome) => line(format_args!("  not repaired: {outcome}")),
        }
    }
    if !report.unverifiable.is_empty() {
        line(format_args!(
            "{} layers cannot be verified: the version that unpacked them kept nothing to do it by; \
             remove and pull their images to have them verified",
            report.unverifiable.len()
        ));
    }
    if !report.by_content.is_empty() {
        line(format_args!(
            "{} layers by content and number of their files alone: their tars say more than once what \
             a file is, or an earlier version unpacked them",
            report.by_content.len()
        ));
    }
    let old = report
        .unreferenced
        .iter()
        .filter(|layer| layer.age_seconds >= age.as_secs());
    match old.count() {
        0 => {}
        count => line(format_args!(
            "{count} layers belong to no image; the next start of the daemon frees them"
        )),
    }
    line(format_args!(
        "checked {} images, {} layers ({}), {} root filesystems, {} records: {}",
        report.images,
        report.layers,
        bytes(report.bytes),
        report.roots,
        report.records,
        match report
            .findings
            .iter()
            .filter(|finding| !finding.repaired)
            .count()
        {
            0 => "in order".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        }
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_wrong_what_it_affects_and_what_to_do() {
        let finding = |repaired, outcome: &str| Finding {
            what: "layer sha256:ab".into(),
            problem: "/l/ab/diff/f: it has become shorter".into(),
            affects: vec!["image a:1".into()],
            remedy: "--repair removes image i".into(),
            repaired,
            outcome: outcome.into(),
        };
        let report = CheckReport {
            findings: vec![
                finding(false, ""),
                finding(true, "removed"),
                finding(false, "in use"),
            ],
            ..CheckReport::default()
        };
        let text = shown(&report, Duration::ZERO);
        for part in [
            "layer sha256:ab: /l/ab/diff/f: it has become shorter\n  affects image a:1\n",
            "  --repair removes image i\n",
            "  repaired: removed\n",
            "  not repaired: in use\n",
            "2 things are wrong\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_age_is_a_duration() {
        assert_eq!(age_of("24h").unwrap(), Duration::from_secs(86_400));
        assert!(
            age_of("soon")
                .unwrap_err()
                .to_string()
                .contains("--age soon")
        );
    }
}
