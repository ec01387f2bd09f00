//! What the tests run inside the virtual machine: the agent, and the programs that it starts.

mod agent;
mod apparmor;
mod churn;
mod daemon;
mod images;
mod last_words;
mod ledger;
mod pods;
mod scopes;
mod units;
mod userns;
mod verify;

use std::process::ExitCode;

/// A failure, in words for the outside.
type Outcome<T = ()> = Result<T, String>;

/// All parts' errors together: all are tried, so that one run under emulation tells everything.
fn together<P: std::fmt::Display>(parts: impl IntoIterator<Item = (P, Outcome)>) -> Outcome {
    let wrong: Vec<String> = parts
        .into_iter()
        .filter_map(|(part, outcome)| outcome.err().map(|error| format!("{part}: {error}")))
        .collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["agent"] => agent::serve().map_err(|error| format!("agent: {error}")),
        ["pod", ref words @ ..] => wait_for(pods::run(words)),
        ["last-words"] => wait_for(last_words::run()),
        ["scopes"] => wait_for(scopes::run()),
        ["apparmor"] => wait_for(apparmor::run()),
        ["userns"] => wait_for(userns::run()),
        ["serve"] => images::serve(),
        ["churn", data, seed] => wait_for(churn::run(data, seed)),
        ["verify", data] => wait_for(verify::run(data)),
        _ => Err(format!("node-guest: not understood: {words:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn wait_for(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    runtime.block_on(work)
}
