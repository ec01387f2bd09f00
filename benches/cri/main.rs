//! Measures a CRI runtime over its socket, and prints it beside the floor and the peers.
//!
//! `make bench` measures cricket on scratch paths. `make bench ARGS="--socket SOCKET"` measures
//! whatever answers there, so that peers are measured by the same client in the same run; it needs
//! a CNI network of its own and must take images from 127.0.0.1:5001 over HTTP.
//!
//! Options: `--socket FILE`, `--cgroup-parent PATH`, `--rounds N` (default 40), `--pods N` (default
//! 50), `--pulls N` (of 1 GB, default 5), and names of measurements to do only those: floor, pods,
//! exec, stream, burst, many, hangs, restart, pull, gigabyte, log. `gigabyte` starts a containerd of its
//! own beside the daemon, where one is installed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that fails says so"
)]

mod containerd;
mod disk;
mod execs;
mod floor;
mod gigabyte;
mod hangs;
mod images;
mod logs;
mod many;
mod pods;
mod restart;
mod streams;
mod table;
mod target;
mod tree;

use std::process::ExitCode;

use table::Table;
use target::Target;

/// What the command line asks for.
#[derive(Debug)]
pub struct Arguments {
    socket: Option<std::path::PathBuf>,
    cgroup_parent: Option<String>,
    rounds: usize,
    pods: usize,
    pulls: usize,
    only: Vec<String>,
}

impl Arguments {
    fn parse() -> Arguments {
        let mut parsed = Arguments {
            socket: None,
            cgroup_parent: None,
            rounds: 40,
            pods: 50,
            pulls: 5,
            only: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .unwrap_or_else(|| panic!("{word} needs a value"))
            };
            match word.as_str() {
                "--socket" => parsed.socket = Some(value().into()),
                "--cgroup-parent" => parsed.cgroup_parent = Some(value()),
                "--rounds" => parsed.rounds = value().parse().expect("--rounds takes a number"),
                "--pulls" => parsed.pulls = value().parse().expect("--pulls takes a number"),
                "--pods" => parsed.pods = value().parse().expect("--pods takes a number"),
                _ if word.starts_with('-') => panic!("unknown option {word}"),
                _ => parsed.only.push(word),
            }
        }
        parsed
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.socket.is_none()
        && let Some(code) = disk::again()
    {
        return code;
    }
    let missed = measure(&arguments);
    for bound in &missed {
        eprintln!("missed: {bound}");
    }
    match missed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints what is measured; what of it is not as it must be is returned.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn measure(arguments: &Arguments) -> Vec<String> {
    let mut missed = Vec::new();
    let mut target = Target::open(arguments).await;
    let mut table = Table::new(target.name().await);
    target.idle_memory(&mut table);
    let image = target.busybox().await;
    if arguments.wants("floor") {
        floor::measure(&target, &image, arguments.rounds, &mut table).await;
    }
    if arguments.wants("pods") {
        pods::one_by_one(&target, &image, arguments.rounds, &mut table).await;
    }
    if arguments.wants("burst") {
        pods::burst(&target, &image, 40, 10, &mut table).await;
    }
    if arguments.wants("exec") {
        execs::measure(&target, &image, &mut table).await;
    }
    if arguments.wants("stream") {
        streams::measure(&target, &image, &mut table).await;
    }
    if arguments.wants("many") {
        many::measure(&mut target, &image, arguments.pods, &mut table).await;
    }
    if arguments.wants("hangs") && arguments.socket.is_none() {
        missed.extend(hangs::measure(&mut table).await);
    }
    if arguments.wants("restart") && arguments.socket.is_none() {
        restart::measure(&mut table).await;
    }
    if arguments.wants("pull") {
        images::measure(&mut target, &mut table).await;
    }
    if arguments.wants("gigabyte") {
        missed.extend(gigabyte::measure(&mut target, arguments.pulls, &mut table).await);
    }
    if arguments.wants("log") {
        logs::measure(&target, &image, &mut table).await;
    }
    target.finish().await;
    table.print();
    missed
}
