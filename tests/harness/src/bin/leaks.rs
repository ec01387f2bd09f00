//! `leaks save FILE` notes what the machine holds of ours; `leaks check FILE` fails when it is more.

use std::process::ExitCode;

use cricket_harness::machine::Machine;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [verb, file] = arguments.as_slice() else {
        return usage();
    };
    let now = Machine::look();
    match verb.as_str() {
        "save" => {
            if let Err(error) = std::fs::write(file, now.to_text()) {
                eprintln!("leaks: {file}: {error}");
                return ExitCode::FAILURE;
            }
        }
        "check" => {
            let before = std::fs::read_to_string(file).unwrap_or_default();
            let left = now.beyond(&before);
            if !left.is_empty() {
                eprintln!("left behind on this machine:\n  {}", left.join("\n  "));
                return ExitCode::FAILURE;
            }
            println!(
                "nothing left behind: no mount, network namespace, link, cgroup, process or scratch directory"
            );
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: leaks save|check FILE");
    ExitCode::FAILURE
}
