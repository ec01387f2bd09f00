//! What is printed can be read back.

use std::collections::BTreeMap;

use super::Node;
use crate::config::tables::{Handler, Workload};
use crate::config::{Config, default_file, effective_file, manual_page};

/// Takes the comment mark from every key of a printed file.
fn uncommented(text: &str) -> String {
    let is_prose = |line: &str| line.starts_with("# ") && !line.starts_with("#  ");
    let lines = text.lines().filter(|line| !is_prose(line));
    lines
        .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
        .collect()
}

#[test]
fn the_default_file_as_it_is_changes_nothing() {
    let loaded = Node::with(&default_file()).load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_default_file_with_every_key_uncommented_gives_the_defaults() {
    let text = uncommented(&default_file()).replace(
        "activation_annotation = \"\"",
        "activation_annotation = \"a\"",
    );
    let mut config = Node::with(&text)
        .load()
        .unwrap_or_else(|error| panic!("{error}"))
        .config;
    let handlers = std::mem::take(&mut config.runtime.runtimes);
    assert_eq!(
        handlers,
        BTreeMap::from([("NAME".to_owned(), Handler::default())])
    );
    let workloads = std::mem::take(&mut config.runtime.workloads);
    let annotated = Workload {
        activation_annotation: "a".to_owned(),
        ..Workload::default()
    };
    assert_eq!(workloads, BTreeMap::from([("NAME".to_owned(), annotated)]));
    assert_eq!(config, Config::default());
}

#[test]
fn the_effective_file_gives_the_same_configuration_and_names_origins() {
    let node = Node::with(
        "[crio]\nroot = \"/data \\\"x\\\"\"\n[crio.runtime]\npids_limit = 7\n\
         default_ulimits = [\"core=-1\"]\n[crio.api]\nstream_idle_timeout = \"90s\"\n\
         [crio.runtime.runtimes.\"a.b\"]\nruntime_path = \"/bin/true\"\n\
         default_annotations = { \"x.y/z\" = \"1\" }\n[crio.stats]\nincluded_pod_metrics = [\"cpu\"]\n",
    )
    .with_flag("read-only", &["true"]);
    let loaded = node.load().unwrap();
    let text = effective_file(&loaded);
    let again = Node::with(&text)
        .load()
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.config, loaded.config);
    assert!(
        text.contains("\n# (from --read-only)\nread_only = true\n"),
        "{text}"
    );
    let place = format!("# (from {}/crio.conf:2:1)", node.root().display());
    assert!(text.contains(&place), "{text}");
}

#[test]
fn printed_lines_are_not_longer_than_a_screen() {
    for line in default_file().lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

#[test]
fn the_configuration_is_json_by_the_names_of_its_keys() {
    let json = serde_json::to_value(Config::default()).unwrap();
    assert_eq!(json["root"], "/var/lib/containers/storage");
    assert_eq!(json["api"]["stream_port"], "0");
    assert_eq!(json["image"]["pull_progress_timeout"], "0s");
    assert_eq!(json["runtime"]["cgroup_manager"], "systemd");
    assert_eq!(
        json["nri"]["default_validator"]["nri_enable_default_validator"],
        false
    );
}

#[test]
fn the_manual_page_has_no_line_that_roff_takes_for_a_request() {
    let known = [".TH", ".SH", ".TP", ".PP", ".I", ".B", ".BR", ".IR", ".br"];
    for line in manual_page()
        .lines()
        .filter(|line| line.starts_with(['.', '\'']))
    {
        let request = line.split(' ').next().unwrap();
        assert!(known.contains(&request), "{line}");
    }
}
