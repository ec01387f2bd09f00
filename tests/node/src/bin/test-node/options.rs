//! The command line.

use std::path::PathBuf;

use cricket_node::Guest;

/// See `USAGE`.
#[derive(Debug)]
pub struct Options {
    /// What to run.
    pub verb: String,
    /// The machine to run it in.
    pub guest: Guest,
    /// What goes onto the payload's disk.
    pub staged: PathBuf,
    /// Disk states to check, each a cut at another moment of one run.
    pub cuts: usize,
    /// Times that the machine is killed and booted again.
    pub kills: usize,
    /// Seconds of the run that is cut up.
    pub seconds: u64,
    /// Where reports go.
    pub report: PathBuf,
    /// The disk with the integration tests.
    pub suite: PathBuf,
    /// Of all chance; `None` takes a new one.
    pub seed: Option<u64>,
}

const USAGE: &str = "usage: test-node image|short|whole|security|service|suite|cuts|conformance --staged DIR \
                     [--guest amd64|arm64] [--cuts N] [--kills N] [--seconds N] [--seed N] [--report DIR] [--suite DISK]";

const VERBS: [&str; 8] = [
    "security",
    "image",
    "short",
    "whole",
    "service",
    "suite",
    "cuts",
    "conformance",
];

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let verb = words.next().unwrap_or_default();
        if !VERBS.contains(&verb.as_str()) {
            return Err(USAGE.into());
        }
        let mut options = Options {
            verb,
            guest: Guest::default(),
            staged: PathBuf::new(),
            cuts: 60,
            kills: 50,
            seconds: 180,
            report: "target/node-conformance".into(),
            suite: PathBuf::new(),
            seed: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            let number = || {
                let number = value.parse::<u32>();
                number.map_err(|_| format!("{word}: not a number: {value}"))
            };
            match word.as_str() {
                "--guest" => options.guest = guest(&value)?,
                "--staged" => options.staged = value.into(),
                "--suite" => options.suite = value.into(),
                "--report" => options.report = value.into(),
                "--cuts" => options.cuts = number()? as usize,
                "--kills" => options.kills = number()? as usize,
                "--seconds" => options.seconds = number()?.into(),
                "--seed" => options.seed = Some(number()?.into()),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

fn guest(value: &str) -> Result<Guest, String> {
    [Guest::Amd64, Guest::Arm64]
        .into_iter()
        .find(|guest| guest.debian() == value)
        .ok_or_else(|| format!("--guest: {value} is neither amd64 nor arm64"))
}
