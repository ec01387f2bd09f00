//! Checks that need more than one key, and what has no effect.

use std::collections::BTreeMap;

use super::choice::CgroupManager;
use super::document::Findings;
use super::place::{Origin, Origins, Problem};
use super::schema::{Status, Table};
use super::tables::{Config, handler};
use super::{handlers, suggest};

/// Checks the keys against each other.
pub(super) fn whole(config: &Config, origins: &Origins, findings: &mut Findings) {
    let mut refuse = |origin: &Origin, text: String| {
        findings.errors.push(Problem::new(origin.clone(), text));
    };
    if config.root == config.runroot {
        let text = "`runroot`: it must not be the same directory as `root`".to_owned();
        refuse(origins.of("crio.runroot"), text);
    }
    let names: Vec<&str> = names(config).collect();
    let default = config.runtime.default_runtime.as_str();
    if !names.contains(&default) {
        let hint = match suggest::nearest(default, names.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!(
                "; add [crio.runtime.runtimes.{default}] or name one of {}",
                names.join(", ")
            ),
        };
        let text = format!("`default_runtime`: there is no runtime handler `{default}`{hint}");
        refuse(origins.of("crio.runtime.default_runtime"), text);
    }
    let manager = config.runtime.cgroup_manager;
    if let Some(text) = monitor_cgroup(manager, &config.runtime.conmon_cgroup) {
        refuse(
            origins.of("crio.runtime.conmon_cgroup"),
            format!("`conmon_cgroup`: {text}"),
        );
    }
    for (name, handler) in &config.runtime.runtimes {
        let path = format!("crio.runtime.runtimes.{name}");
        let own = config.runtime.conmon_cgroup.is_empty() || !handlers::obeys_old_keys(handler);
        let found = own.then(|| monitor_cgroup(manager, &handler.monitor_cgroup));
        if let Some(text) = found.flatten() {
            let origin = origins.of(&format!("{path}.monitor_cgroup"));
            refuse(origin, format!("`monitor_cgroup`: {text}"));
        }
        if let Some(text) = handler_name(name) {
            refuse(origins.of_table(&path), text);
        }
    }
    workloads(config, origins, findings);
}

fn workloads(config: &Config, origins: &Origins, findings: &mut Findings) {
    let mut activated = BTreeMap::new();
    for (name, workload) in &config.runtime.workloads {
        let path = format!("crio.runtime.workloads.{name}");
        let annotation = &workload.activation_annotation;
        if let Some(first) = activated.get(annotation) {
            let text = format!(
                "[{path}] has no effect: `{annotation}` activates the workload `{first}` already"
            );
            let origin = origins.of(&format!("{path}.activation_annotation"));
            findings.warnings.push(Problem::new(origin.clone(), text));
        }
        activated.entry(annotation).or_insert(name);
        if workload.activation_annotation.is_empty() {
            let text = format!("[{path}] has no `activation_annotation`");
            findings
                .errors
                .push(Problem::new(origins.of_table(&path).clone(), text));
        }
    }
}

/// The names of all handlers: those of the file and the built-in ones.
fn names(config: &Config) -> impl Iterator<Item = &str> {
    let configured = config.runtime.runtimes.keys().map(String::as_str);
    let known = |name: &&str| !config.runtime.runtimes.contains_key(*name);
    configured.chain(handler::BUILT_IN.into_iter().filter(known))
}

/// Where each cgroup manager can put a monitor: CRI-O's rule.
fn monitor_cgroup(manager: CgroupManager, cgroup: &str) -> Option<String> {
    let (legal, expected) = match manager {
        CgroupManager::Systemd => (
            cgroup.ends_with(".slice"),
            "a name that ends in `.slice`, or `pod`",
        ),
        CgroupManager::Cgroupfs => (
            cgroup == handlers::MONITOR_SLICE,
            "`pod` or an empty string",
        ),
    };
    if legal || matches!(cgroup, "" | "pod") {
        return None;
    }
    let manager = manager.as_str();
    Some(format!(
        "with cgroup_manager = \"{manager}\" it must be {expected}, found `{cgroup}`"
    ))
}

/// A handler's name becomes a directory name.
fn handler_name(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = name.chars().all(legal) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (!good || name.len() > 253).then(|| {
        format!("`{name}` cannot be the name of a handler: letters, digits, `-`, `_` and `.` can")
    })
}

/// Warns about keys that were set to something else than their default and do nothing, or will
/// not for long. The default itself is no reason to warn: CRI-O's packages install a file that
/// spells all of them out.
pub(super) fn without_effect(
    table: &dyn Table,
    defaults: &dyn Table,
    path: &str,
    origins: &Origins,
    findings: &mut Findings,
) {
    for key in table.keys() {
        let origin = origins.of(&format!("{path}.{}", key.name));
        if table.get(key.name) == defaults.get(key.name) {
            continue;
        }
        let text = match key.status {
            Status::Honoured => continue,
            Status::Accepted(why) => format!("`{}` has no effect: {why}", key.name),
            Status::Deprecated(instead) => format!("`{}` is deprecated: {instead}", key.name),
        };
        findings.warnings.push(Problem::new(origin.clone(), text));
    }
    let example = table.example_child();
    let known = defaults.children();
    for (name, child) in table.children() {
        let of_same_name = known
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, table)| *table);
        if let Some(defaults) = example.as_deref().or(of_same_name) {
            without_effect(
                child,
                defaults,
                &format!("{path}.{name}"),
                origins,
                findings,
            );
        }
    }
}
