//! The flags: one for each key of the configuration's tables that has one.

use std::collections::BTreeMap;

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches};

use crate::config::{Config, Key, Options, Shape, Status, Table};

/// Flags that a short help (`-h`) shows; `--help` shows all that have an effect.
const ESSENTIAL: [&str; 13] = [
    "config",
    "config-dir",
    "listen",
    "log",
    "log-format",
    "log-level",
    "root",
    "runroot",
    "cgroup-manager",
    "default-runtime",
    "cni-config-dir",
    "cni-plugin-dir",
    "signature-policy",
];

/// Flags that subcommands take too, because they say where the daemon is.
const SHARED: [&str; 3] = ["config", "config-dir", "listen"];

/// All flags.
pub fn all() -> Vec<Arg> {
    each()
        .into_iter()
        .map(|(table, key)| arg(table, key))
        .collect()
}

/// The flags that were given, with their values, by name.
pub fn given(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let mut given = BTreeMap::new();
    // A shared flag behind a subcommand is found there; clap copies it down, not up.
    let below = matches.subcommand().map(|(_, own)| own);
    for (_, key) in each() {
        let levels = below
            .into_iter()
            .filter(|_| SHARED.contains(&key.flag))
            .chain([matches]);
        let values = levels
            .filter_map(|level| level.get_many::<String>(key.flag))
            .map(|values| values.cloned().collect::<Vec<_>>())
            .next();
        if let Some(values) = values {
            given.insert(key.flag.to_owned(), values);
        }
    }
    given
}

/// Every key that has a flag, with the heading that it is shown under.
fn each() -> Vec<(&'static str, &'static Key)> {
    fn visit(
        heading: &'static str,
        table: &dyn Table,
        found: &mut Vec<(&'static str, &'static Key)>,
    ) {
        found.extend(
            table
                .keys()
                .iter()
                .filter(|key| !key.flag.is_empty())
                .map(|key| (heading, key)),
        );
        for (name, child) in table.children() {
            visit(heading_of(&name), child, found);
        }
    }
    let mut found = Vec::new();
    visit("Configuration and log", &Options::default(), &mut found);
    visit("Storage", &Config::default(), &mut found);
    found
}

fn heading_of(table: &str) -> &'static str {
    match table {
        "api" => "Socket and streaming",
        "runtime" => "Containers",
        "image" => "Images",
        "network" => "Network",
        "metrics" | "tracing" | "stats" => "Telemetry",
        _ => "Plugins",
    }
}

fn arg(heading: &'static str, key: &'static Key) -> Arg {
    let arg = Arg::new(key.flag)
        .long(key.flag)
        .short(key.short)
        .help_heading(heading)
        .help(help(key))
        .action(ArgAction::Append)
        .global(SHARED.contains(&key.flag))
        .hide(matches!(key.status, Status::Accepted(_)))
        .hide_short_help(!ESSENTIAL.contains(&key.flag));
    let arg = match key.shape {
        Shape::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
        Shape::Scalar | Shape::List | Shape::Map => arg.num_args(1).value_name(value_name(key)),
    };
    let arg = if is_path(key) {
        arg.value_hint(ValueHint::AnyPath)
    } else {
        arg
    };
    if key.alias.is_empty() {
        arg
    } else {
        arg.alias(key.alias)
    }
}

fn is_path(key: &Key) -> bool {
    key.expected == "an absolute path" || ["config", "config-dir"].contains(&key.flag)
}

fn value_name(key: &Key) -> &'static str {
    match key.expected {
        _ if is_path(key) => "PATH",
        text if text.starts_with("an integer") => "NUMBER",
        text if text.starts_with("a time") => "TIME",
        _ => "VALUE",
    }
}

/// The key's documentation as one paragraph, with its variable.
fn help(key: &Key) -> String {
    let prose: Vec<&str> = key.doc_lines().map(str::trim).collect();
    let mut text = prose.join(" ").replace('`', "");
    if let Status::Deprecated(instead) = key.status {
        text.push_str(&format!(" Deprecated: {instead}."));
    }
    if !key.env.is_empty() {
        text.push_str(&format!(" [env: {}]", key.env));
    }
    text
}
