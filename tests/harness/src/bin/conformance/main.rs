//! `make conformance`: critest, the CRI's own test suite, against the daemon.
//!
//! The specs are shared out to several nodes, each a daemon on scratch paths in a network namespace
//! of its own with a registry of stand-ins for critest's images. So the host ports that critest has
//! as constants, and its image specs, which must be alone with a daemon, do not meet, and most of
//! its time, which is fixed polling, is spent side by side. `tests/conformance/run.sh` gives all of
//! them mounts and System V IPC of their own: critest leaves some of both on its machine.
//!
//! The streaming specs run twice: over SPDY, and over WebSocket on one more node.
//!
//! A node is a process of its own (`conformance node …`): one that fails ends none but itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test program that fails says so and ends"
)]

mod elsewhere;
mod node;
mod programs;
mod specs;
mod stand_ins;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cricket_harness::tools;

use specs::{Outcome, Spec};
use verdict::{Abilities, EXCLUDED, Verdict};

/// Nodes at a time: critest mostly waits, so more than there are cores. $CRICKET_CONFORMANCE_NODES
/// takes another number.
const NODES: usize = 6;
/// What a node says for itself: how it ended, or what it left behind.
const LOG: &str = "node.log";
/// What a spec is taken to need that has not run here yet.
const USUAL: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["node", dir] => node::run(Path::new(dir)),
        ["stage", dir] => elsewhere::stage(Path::new(dir)),
        ["judge", report, features] => elsewhere::judge(Path::new(report), Path::new(features)),
        [] => conformance(None),
        ["--focus", focus] => conformance(Some(focus)),
        _ => {
            eprintln!("usage: conformance [--focus REGEX | stage DIR | judge REPORT FEATURES]");
            ExitCode::FAILURE
        }
    }
}

/// Where everything of a run is kept: logs and reports for the reader, times for the next run.
fn work() -> PathBuf {
    tools::workspace().join("target/conformance")
}

fn conformance(focus: Option<&str>) -> ExitCode {
    let begun = Instant::now();
    let work = work();
    fs::create_dir_all(&work).unwrap();
    let runtime = node::runtime();
    let mut wanted = specs::list(&node::critest(), &work, focus);
    let listed = wanted.len();
    wanted.retain(|spec| spec.text != EXCLUDED.0);
    let excluded = listed != wanted.len();

    let times = Times::read(&work);
    let mut shares = times.share(&wanted, nodes());
    let again: Vec<Spec> = wanted.iter().filter_map(Spec::over_websocket).collect();
    println!(
        "critest: {} specs, {} of them again over WebSocket, none of its benchmarks;\n\
         against cricket with {} on {} nodes; logs in {}",
        wanted.len(),
        again.len(),
        version(&runtime),
        shares.len() + usize::from(!again.is_empty()),
        work.display()
    );
    if !again.is_empty() {
        shares.push(again.clone());
        wanted.extend(again);
    }
    let running: Vec<Running> = shares
        .into_iter()
        .enumerate()
        .map(|(number, share)| start(work.join(format!("node-{number}")), share))
        .collect();
    let mut outcomes = Vec::new();
    let mut troubles = Vec::new();
    for mut node in running {
        let status = node.child.wait().unwrap();
        match specs::outcomes(&node.dir.join(node::REPORT)) {
            Ok(reported) => outcomes.extend(specs::of_share(reported, &node.share)),
            Err(error) => troubles.push(error),
        }
        if !status.success() {
            let log = node.dir.join(LOG);
            troubles.push(format!("a node ended with {status}: {}", log.display()));
        }
    }
    let mut verdict = Verdict::of(&wanted, &outcomes, Abilities::look(&runtime));
    troubles
        .into_iter()
        .for_each(|trouble| verdict.spoil(trouble));
    if focus.is_none() && !excluded {
        verdict.spoil(format!(
            "critest has no spec {:?} any more: exclude none",
            EXCLUDED.0
        ));
    }
    times.update(&work, &outcomes);
    verdict.print(excluded, begun.elapsed());
    if verdict.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A node at work.
struct Running {
    dir: PathBuf,
    share: Vec<Spec>,
    child: Child,
}

/// Starts the node that runs `share`, with its files in `dir`.
fn start(dir: PathBuf, share: Vec<Spec>) -> Running {
    // Of the run before.
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join(node::ARGUMENTS),
        specs::arguments(&share).join("\n"),
    )
    .unwrap();
    let log = fs::File::create(dir.join(LOG)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("node").arg(&dir).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.spawn().unwrap();
    Running { dir, share, child }
}

fn nodes() -> usize {
    let number = std::env::var("CRICKET_CONFORMANCE_NODES");
    number.map_or(NODES, |text| {
        text.parse()
            .expect("$CRICKET_CONFORMANCE_NODES is a number")
    })
}

fn version(runtime: &Path) -> String {
    let text = tools::run(Command::new(runtime).arg("--version"));
    text.lines().next().unwrap_or_default().to_owned()
}

/// How long each spec took when it last ran here.
#[derive(Debug)]
struct Times(BTreeMap<String, f64>);

impl Times {
    const FILE: &str = "times.json";

    fn read(work: &Path) -> Times {
        let text = fs::read(work.join(Self::FILE)).unwrap_or_default();
        // None yet, or of another version: any split will do.
        Times(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn of(&self, spec: &Spec) -> f64 {
        *self.0.get(&spec.text).unwrap_or(&USUAL.as_secs_f64())
    }

    /// Shares out, the longest first, each to whoever has least.
    fn share(&self, specs: &[Spec], nodes: usize) -> Vec<Vec<Spec>> {
        let mut specs: Vec<&Spec> = specs.iter().collect();
        specs.sort_by(|a, b| self.of(b).total_cmp(&self.of(a)));
        let mut shares: Vec<(f64, Vec<Spec>)> =
            vec![(0.0, Vec::new()); nodes.clamp(1, specs.len().max(1))];
        for spec in specs {
            let least = shares.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0));
            let least = least.expect("there is a node");
            least.0 += self.of(spec);
            least.1.push(spec.clone());
        }
        shares.into_iter().map(|(_, share)| share).collect()
    }

    fn update(mut self, work: &Path, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.0
                .insert(outcome.spec.text.clone(), outcome.time.as_secs_f64());
        }
        fs::write(
            work.join(Self::FILE),
            serde_json::to_vec_pretty(&self.0).unwrap(),
        )
        .unwrap();
    }
}
