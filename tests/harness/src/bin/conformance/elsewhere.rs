//! critest on a machine that this program is not on: what it needs there, and what its report means.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use cricket_harness::net::Net;
use cricket_harness::registry::Registry;
use cricket_harness::tools;

use crate::verdict::{Abilities, EXCLUDED, Verdict};
use crate::{node, specs, stand_ins};

/// Where the registry listens over there.
const PORT: u16 = 5000;

/// Puts critest, a registry with the stand-ins of its images, and the configuration for both into
/// `dir`. `run` there starts the registry and runs all specs but benchmarks; the report is
/// `report.json` in the directory from which it is run.
pub fn stage(dir: &Path) -> ExitCode {
    let work = crate::work();
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(dir).unwrap();
    let registry = Registry::start(&Arc::new(Net::machine()), 0, dir);
    stand_ins::push(&registry, &stand_ins::all(&work));
    drop(registry);
    let program = tools::docker_registry().expect("docker-registry: `make deps` sees to it");
    fs::copy(program, dir.join("docker-registry")).unwrap();
    fs::copy(node::critest(), dir.join("critest")).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: 127.0.0.1:{PORT}}}\n"
    );
    fs::write(dir.join("registry.yml"), config).unwrap();
    let host = format!("127.0.0.1:{PORT}");
    fs::write(dir.join("registries.conf"), stand_ins::mirrors(&host)).unwrap();
    ExitCode::SUCCESS
}

/// Says what a report means; good if nothing failed and each skip has its reason. `features` is what
/// the OCI runtime said over there.
pub fn judge(report: &Path, features: &Path) -> ExitCode {
    let mut wanted = specs::list(&node::critest(), &crate::work(), None);
    wanted.retain(|spec| spec.text != EXCLUDED.0);
    let outcomes = match specs::outcomes(report) {
        Ok(outcomes) => specs::of_share(outcomes, &wanted),
        Err(error) => {
            eprintln!("conformance: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut there = Command::new("cat");
    let abilities = Abilities {
        // The virtual machine's kernel has it on; its test looks first.
        apparmor: true,
        ..Abilities::of(&tools::output(there.arg(features)).stdout)
    };
    let time: Duration = outcomes.iter().map(|outcome| outcome.time).sum();
    let verdict = Verdict::of(&wanted, &outcomes, abilities);
    verdict.print(true, time);
    match verdict.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
