//! `make test-node` and `make test-power`: cricket installed in a virtual machine.

mod conformance;
mod cuts;
mod install;
mod options;
mod security;
mod service;
mod short;

use std::process::ExitCode;

use cricket_node::{Images, NodeError, Workshop};
use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("test-node: {text}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-node: FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), NodeError> {
    let images = Images::build(&Images::find())?;
    if options.verb == "image" {
        return Ok(());
    }
    let mut workshop = Workshop::open(&images, &options.staged)?;
    eprintln!("node: console and disks in {}", workshop.dir().display());
    let done = match options.verb.as_str() {
        "conformance" => conformance::run(&workshop, options),
        "cuts" => cuts::run(&workshop, options),
        "security" => security::run(&workshop),
        "service" => service::run(&workshop),
        _ => short::run(&workshop),
    };
    if done.is_err() && std::env::var_os("CRICKET_KEEP_SCRATCH").is_some() {
        eprintln!("node: kept: {}", workshop.keep().display());
    }
    done
}
