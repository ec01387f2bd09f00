//! Writing the configuration as a commented file: the defaults, or what is in effect.
//!
//! Prose stands behind `# `, a key with its default behind a bare `#`: whoever wants to change a
//! key removes one character. The file can be read back and gives the same configuration.

use std::fmt::Write;

use toml::Value;

use super::load::Loaded;
use super::place::{Origin, Origins};
use super::schema::{EXAMPLE_NAME, Key, Status, Table};
use super::tables::Config;

/// Longest line of prose and arrays.
const WIDTH: usize = 100;

const DEFAULT_HEAD: &str = "\
# The configuration of cricket, crio.conf(5): every key with its default.
#
# A key that stands behind a `#` has the value that is shown. Files in crio.conf.d beside this
# file are read after it, then variables such as CONTAINER_LISTEN, then flags.
# `cricket config` prints what is in effect and why, `cricket config --check` what is wrong.
";

const EFFECTIVE_HEAD: &str = "\
# The configuration of cricket that is in effect, crio.conf(5).
#
# A key that stands behind a `#` has its default; any other says where its value comes from.
";

/// The defaults of every key, each commented out.
pub fn default_file() -> String {
    let mut out = DEFAULT_HEAD.to_owned();
    let config = Config::default();
    print_table(
        &mut out,
        &config,
        &config,
        "crio",
        &Origins::default(),
        true,
    );
    out
}

/// The configuration in effect.
pub fn effective_file(loaded: &Loaded) -> String {
    let mut out = EFFECTIVE_HEAD.to_owned();
    print_table(
        &mut out,
        &loaded.config,
        &Config::default(),
        "crio",
        &loaded.origins,
        false,
    );
    out
}

fn print_table(
    out: &mut String,
    table: &dyn Table,
    defaults: &dyn Table,
    path: &str,
    origins: &Origins,
    with_examples: bool,
) {
    let header_mark = if path.contains(EXAMPLE_NAME) { "#" } else { "" };
    if table.example_child().is_none() {
        let _ = writeln!(out, "\n{header_mark}[{path}]");
    }
    for key in table.keys() {
        print_key(
            out,
            key,
            table,
            defaults,
            &format!("{path}.{}", key.name),
            origins,
        );
    }
    if let Some(example) = table.example_child() {
        if with_examples {
            let name = format!("{path}.{EXAMPLE_NAME}");
            print_table(
                out,
                example.as_ref(),
                example.as_ref(),
                &name,
                origins,
                true,
            );
        }
        for (name, child) in table.children() {
            let name = format!("{path}.{}", table_name(&name));
            print_table(out, child, example.as_ref(), &name, origins, with_examples);
        }
        return;
    }
    let known = defaults.children();
    for (name, child) in table.children() {
        let same = known
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(child, |(_, table)| *table);
        print_table(
            out,
            child,
            same,
            &format!("{path}.{name}"),
            origins,
            with_examples,
        );
    }
}

fn print_key(
    out: &mut String,
    key: &Key,
    table: &dyn Table,
    defaults: &dyn Table,
    path: &str,
    origins: &Origins,
) {
    out.push('\n');
    for line in key.doc_lines() {
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
    match key.status {
        Status::Honoured => {}
        Status::Accepted(why) => comment(out, &format!("Has no effect: {why}.")),
        Status::Deprecated(instead) => comment(out, &format!("Deprecated: {instead}.")),
    }
    let Some(value) = table.get(key.name) else {
        return;
    };
    let origin = origins.of(path);
    let is_default = defaults.get(key.name).as_ref() == Some(&value);
    if !is_default && *origin != Origin::Default {
        let _ = writeln!(out, "# (from {origin})");
    }
    let mark = if is_default { "#" } else { "" };
    for line in print_value(key.name, &value).lines() {
        let _ = writeln!(out, "{mark}{line}");
    }
}

/// Prose of one paragraph, broken into lines.
fn comment(out: &mut String, text: &str) {
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// `name = value`, an array over several lines when it is long.
fn print_value(name: &str, value: &Value) -> String {
    let short = format!("{name} = {value}");
    match value {
        Value::Array(items) if short.len() > WIDTH => {
            let items: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("{name} = [\n{items}]")
        }
        _ => short,
    }
}

/// A name in a table's header, quoted when TOML wants it to be.
fn table_name(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.chars().all(bare) && !name.is_empty() {
        true => name.to_owned(),
        false => Value::String(name.to_owned()).to_string(),
    }
}
