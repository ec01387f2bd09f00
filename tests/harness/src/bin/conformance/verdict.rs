//! Which skips this machine excuses, and whether the run was good.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use cricket_harness::tools;

use crate::specs::{End, Outcome, Spec};

/// The spec that cannot run here, and why.
pub const EXCLUDED: (&str, &str) = (
    "[k8s.io] Image Manager public image with digest should be pulled and removed [Conformance]",
    "its digest is a constant whose content is only on the internet; tests/images.rs proves the same",
);

/// What this machine and its OCI runtime can do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    /// The kernel enforces AppArmor.
    pub apparmor: bool,
    /// The OCI runtime makes recursive read-only mounts.
    pub recursive_read_only: bool,
    /// The OCI runtime makes idmapped mounts, which user namespaces need.
    pub idmapped_mounts: bool,
    /// The kernel idmaps overlayfs (5.19).
    pub idmapped_overlay: bool,
}

impl Abilities {
    /// Asks the kernel, and the runtime by its `features`.
    pub fn look(runtime: &Path) -> Abilities {
        let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Abilities {
            apparmor: apparmor.is_ok_and(|text| text.starts_with('Y')),
            ..Abilities::of(&tools::output(Command::new(runtime).arg("features")).stdout)
        }
    }

    /// Those that the runtime's `features` tell of.
    pub fn of(features: &[u8]) -> Abilities {
        // A runtime without that command has none of what is asked for.
        let features: Value = serde_json::from_slice(features).unwrap_or_default();
        let options = features["mountOptions"].as_array();
        Abilities {
            apparmor: false,
            recursive_read_only: options.is_some_and(|all| all.contains(&"rro".into())),
            idmapped_mounts: features["linux"]["mountExtensions"]["idmap"]["enabled"] == true,
            idmapped_overlay: kernel() >= (5, 19),
        }
    }

    /// Why a spec that critest skipped for `reason` cannot run here; `None` if it should.
    pub fn excuse(self, reason: &str) -> Option<&'static str> {
        let excuses = [
            (
                "AppArmor is disabled on this host",
                self.apparmor,
                "/sys/module/apparmor/parameters/enabled is not Y",
            ),
            (
                "runtime does not implement recursive readonly mounts",
                self.recursive_read_only,
                "the OCI runtime's `features` have no mount option rro",
            ),
            (
                "no runtime handler found which supports user namespaces",
                self.idmapped_mounts,
                "the OCI runtime's `features` have no idmapped mounts",
            ),
            (
                "ID mapping is not supported",
                self.idmapped_overlay,
                "the kernel is older than 5.19",
            ),
        ];
        let excuse = excuses
            .into_iter()
            .find(|(start, ..)| reason.starts_with(start))?;
        (!excuse.1).then_some(excuse.2)
    }
}

/// Major and minor version of the running kernel.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Verdict {
    passed: usize,
    /// (reason, excuse) and how many.
    skipped: BTreeMap<(String, &'static str), usize>,
    /// What makes the run bad, in words.
    bad: Vec<String>,
}

impl Verdict {
    /// Weighs `outcomes` against what was `wanted`: each must have run, unless it is excused.
    pub fn of(wanted: &[Spec], outcomes: &[Outcome], abilities: Abilities) -> Verdict {
        let mut verdict = Verdict::default();
        for outcome in outcomes {
            verdict.add(outcome, abilities);
        }
        for spec in wanted {
            if !outcomes.iter().any(|outcome| outcome.spec == *spec) {
                verdict.bad.push(format!("did not run: {}", spec.text));
            }
        }
        if wanted.is_empty() {
            verdict.bad.push("no spec was chosen".into());
        }
        verdict
    }

    fn add(&mut self, outcome: &Outcome, abilities: Abilities) {
        let text = &outcome.spec.text;
        match &outcome.end {
            End::Passed => self.passed += 1,
            End::Failed(why) => self.bad.push(format!("{text}\n      {why}")),
            End::Skipped(reason) => match abilities.excuse(reason) {
                Some(excuse) => *self.skipped.entry((reason.clone(), excuse)).or_default() += 1,
                None => self.bad.push(format!(
                    "{text}\n      skipped, and this machine can run it: {reason}"
                )),
            },
        }
    }

    /// Something else went wrong.
    pub fn spoil(&mut self, what: String) {
        self.bad.push(what);
    }

    /// Nothing failed, and all ran that can.
    pub fn is_good(&self) -> bool {
        self.bad.is_empty()
    }

    /// As it is printed.
    pub fn print(&self, excluded: bool, time: Duration) {
        for bad in &self.bad {
            println!("  FAILED {}", bad.replace('\n', "\n  "));
        }
        println!("  passed   {:>4}", self.passed);
        println!("  failed   {:>4}", self.bad.len());
        println!("  skipped  {:>4}", self.skipped.values().sum::<usize>());
        for ((reason, excuse), count) in &self.skipped {
            println!("           {count:>4} × {reason}: {excuse}");
        }
        if excluded {
            println!("  excluded    1  {}: {}", EXCLUDED.0, EXCLUDED.1);
        }
        println!("  {:.0} s", time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        Spec {
            text: text.into(),
            file: "validate/pod.go".into(),
            line: 1,
        }
    }

    fn outcome(text: &str, end: End) -> Outcome {
        Outcome {
            spec: spec(text),
            end,
            time: Duration::ZERO,
        }
    }

    const NO_APPARMOR: &str = "AppArmor is disabled on this host";

    #[test]
    fn a_skip_is_excused_only_where_the_machine_cannot() {
        let none = Abilities::default();
        let all = Abilities {
            apparmor: true,
            recursive_read_only: true,
            idmapped_mounts: true,
            idmapped_overlay: true,
        };
        for reason in [
            NO_APPARMOR,
            "runtime does not implement recursive readonly mounts",
            "no runtime handler found which supports user namespaces",
            "ID mapping is not supported with path: /x: operation not permitted",
        ] {
            assert!(none.excuse(reason).is_some(), "{reason}");
            assert!(all.excuse(reason).is_none(), "{reason}");
        }
        let never = "The runtime does not support SupplementalGroupsPolicy feature";
        assert!(none.excuse(never).is_none());
    }

    #[test]
    fn a_run_is_bad_by_a_failure_an_unexcused_skip_a_missing_spec_or_no_spec() {
        let wanted = [spec("a"), spec("b")];
        let with = |b: End| vec![outcome("a", End::Passed), outcome("b", b)];
        let good =
            |outcomes: &[Outcome], abilities| Verdict::of(&wanted, outcomes, abilities).is_good();
        let none = Abilities::default();
        let apparmor = Abilities {
            apparmor: true,
            ..none
        };
        assert!(good(&with(End::Passed), none));
        assert!(good(&with(End::Skipped(NO_APPARMOR.into())), none));
        assert!(!good(&with(End::Skipped(NO_APPARMOR.into())), apparmor));
        assert!(!good(&with(End::Skipped(String::new())), none));
        assert!(!good(&with(End::Failed("why".into())), none));
        assert!(!good(&[outcome("a", End::Passed)], none));
        assert!(!Verdict::of(&[], &[], none).is_good());
    }
}
