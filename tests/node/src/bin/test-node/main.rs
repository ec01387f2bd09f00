//! `make test-node` and its kin: cricket installed in a virtual machine.

mod conformance;
mod cuts;
mod install;
mod options;
mod security;
mod service;
mod short;
mod suite;

use std::process::ExitCode;

use cricket_node::{Images, NodeError, Workshop};
use options::Options;
use short::Form;

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
    let images = Images::build(&Images::find(), options.guest)?;
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
        "suite" => suite::run(&workshop, options),
        "whole" => whole(&workshop),
        _ => short::run(&workshop, Form::Short),
    };
    if done.is_err() && std::env::var_os("CRICKET_KEEP_SCRATCH").is_some() {
        eprintln!("node: kept: {}", workshop.keep().display());
    }
    done
}

/// Everything but critest, the integration tests and the power cuts, which take an hour and more
/// each.
fn whole(workshop: &Workshop) -> Result<(), NodeError> {
    short::run(workshop, Form::Whole)?;
    workshop.renew()?;
    service::run(workshop)?;
    workshop.renew()?;
    security::run(workshop)
}
