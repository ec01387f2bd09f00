//! The command line.

use std::path::PathBuf;

/// See `USAGE`.
#[derive(Debug)]
pub struct Options {
    /// What to run.
    pub verb: String,
    /// What goes onto the payload's disk.
    pub staged: PathBuf,
    /// Disk states to check, each a cut at another moment of one run.
    pub cuts: usize,
    /// Times that the machine is killed and booted again.
    pub kills: usize,
    /// Seconds of the run that is cut up.
    pub seconds: u64,
    /// Where critest's report goes.
    pub report: PathBuf,
    /// Of all chance; `None` takes a new one.
    pub seed: Option<u64>,
}

const USAGE: &str = "usage: test-node image|short|security|service|cuts|conformance --staged DIR [--cuts N] [--kills N] \
                     [--seconds N] [--seed N] [--report DIR]";

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let verb = words.next().unwrap_or_default();
        if ![
            "image",
            "short",
            "security",
            "service",
            "cuts",
            "conformance",
        ]
        .contains(&verb.as_str())
        {
            return Err(USAGE.into());
        }
        let mut options = Options {
            verb,
            staged: PathBuf::new(),
            cuts: 60,
            kills: 3,
            seconds: 180,
            report: "target/node-conformance".into(),
            seed: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            let number = || {
                let number = value.parse::<u32>();
                number.map_err(|_| format!("{word}: not a number: {value}"))
            };
            match word.as_str() {
                "--staged" => options.staged = value.into(),
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
