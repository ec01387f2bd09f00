//! cricket: a Kubernetes container runtime. The daemon and its command line in one binary.

mod admin;
mod cdi;
mod cgroup;
mod checkup;
mod cli;
mod config;
mod container;
mod cri;
mod daemon;
mod hooks;
mod image;
mod leaks;
mod network;
mod runtime;
mod sandbox;
mod security;
mod spec;
mod state;
mod storage;
mod streaming;
mod sys;
mod telemetry;
mod yaml;

fn main() -> std::process::ExitCode {
    cli::run()
}
