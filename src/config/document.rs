//! Applying one TOML file to the configuration, and saying what is wrong with it.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Location, Origin, Origins, Problem};
use super::schema::{self, Table};
use super::suggest;
use super::value::Input;

/// What has been found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What stops the daemon.
    pub errors: Vec<Problem>,
    /// What does not.
    pub warnings: Vec<Problem>,
}

/// How many syntax errors of one file are reported; the rest are consequences.
const SYNTAX_ERRORS_MAX: usize = 3;

/// Keys of older CRI-O versions, which a file may still carry, and what became of them.
const RETIRED: [(&str, &str); 7] = [
    ("file_locking", "CRI-O dropped it; remove it"),
    ("file_locking_path", "CRI-O dropped it; remove it"),
    ("host_ip", "CRI-O dropped it; remove it"),
    (
        "inject_gomaxprocs",
        "it is called `min_injected_gomaxprocs` now",
    ),
    (
        "manage_network_ns_lifecycle",
        "CRI-O dropped it: namespaces are always managed",
    ),
    (
        "manage_ns_lifecycle",
        "CRI-O dropped it: namespaces are always managed",
    ),
    (
        "runtime",
        "CRI-O dropped it; write a table [crio.runtime.runtimes.NAME]",
    ),
];

/// Applies the text of `file`; keys that are right are set even when others are wrong.
pub(super) fn apply(
    root: &mut dyn Table,
    file: &Path,
    text: &str,
    origins: &mut Origins,
    findings: &mut Findings,
) {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            let at = Location::of(file, text, error.span().unwrap_or_default());
            let message = error.message().replace('\n', ", ");
            findings
                .errors
                .push(Problem::new(Origin::File(at), message));
        }
        return;
    }
    let mut walk = Walk {
        file,
        text,
        origins,
        findings,
    };
    for (name, value) in table.get_ref() {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("crio", DeValue::Table(keys)) => walk.table(root, "crio", keys),
            _ => walk.unknown_root(name),
        }
    }
}

struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    origins: &'a mut Origins,
    findings: &'a mut Findings,
}

impl Walk<'_> {
    fn at(&self, span: std::ops::Range<usize>) -> Origin {
        Origin::File(Location::of(self.file, self.text, span))
    }

    fn table(&mut self, table: &mut dyn Table, path: &str, keys: &DeTable<'_>) {
        let is_map = table.example_child().is_some();
        for (key, value) in keys {
            let name = key.get_ref().as_ref();
            let full = format!("{path}.{name}");
            match table.set(name, &Input::Toml(value)) {
                Some(Ok(())) => {
                    let origin = self.at(key.span());
                    self.origins.set(full, origin);
                    continue;
                }
                Some(Err(reason)) => {
                    let origin = self.at(reason.span.unwrap_or_else(|| value.span()));
                    let text = format!("`{name}`: {}", reason.text);
                    self.findings.errors.push(Problem::new(origin, text));
                    continue;
                }
                None => {}
            }
            match (value.get_ref(), table.child_mut(name)) {
                (DeValue::Table(below), Some(child)) => {
                    if is_map {
                        self.origins.forget_below(&full);
                    }
                    self.table(child, &full, below);
                }
                (_, Some(_)) => {
                    let origin = self.at(value.span());
                    let text = format!("`{name}`: expected the table [{full}]");
                    self.findings.errors.push(Problem::new(origin, text));
                }
                (value, None) => self.unknown(table, path, key, matches!(value, DeValue::Table(_))),
            }
        }
    }

    fn unknown(
        &mut self,
        table: &dyn Table,
        path: &str,
        key: &Spanned<toml::de::DeString<'_>>,
        is_table: bool,
    ) {
        let name = key.get_ref().as_ref();
        let what = if is_table { "table" } else { "key" };
        let text = format!("unknown {what} `{name}` in [{path}]{}", hint(table, name));
        let origin = self.at(key.span());
        self.findings.warnings.push(Problem::new(origin, text));
    }

    fn unknown_root(&mut self, name: &Spanned<toml::de::DeString<'_>>) {
        let known = schema::all();
        let called = name.get_ref().as_ref();
        // `[network]` for `[crio.network]`, and keys above the first table, are the usual slips.
        let hint = match known
            .iter()
            .find(|(path, _)| *path == format!("crio.{called}"))
        {
            Some((path, _)) => format!("; did you mean [{path}]?"),
            None => elsewhere(&known, called)
                .map(|path| format!("; it is a key of [{path}]"))
                .unwrap_or_else(|| "; everything is below [crio]".to_owned()),
        };
        let text = format!("`{called}` is outside of [crio] and has no effect{hint}");
        let origin = self.at(name.span());
        self.findings.warnings.push(Problem::new(origin, text));
    }
}

/// What the person who wrote an unknown name may have meant, as the end of a sentence.
fn hint(table: &dyn Table, name: &str) -> String {
    if let Some((_, fate)) = RETIRED.iter().find(|(retired, _)| *retired == name) {
        return format!("; {fate}");
    }
    let children = table.children();
    let here = table.keys().iter().map(|key| key.name);
    let here = here.chain(children.iter().map(|(name, _)| name.as_str()));
    if let Some(near) = suggest::nearest(name, here) {
        return format!("; did you mean `{near}`?");
    }
    let known = schema::all();
    if let Some(path) = elsewhere(&known, name) {
        return format!("; it is a key of [{path}]");
    }
    let names = known
        .iter()
        .flat_map(|(path, keys)| keys.iter().map(move |key| (key.name, path.as_str())));
    let names: Vec<(&str, &str)> = names.collect();
    match suggest::nearest(name, names.iter().map(|(name, _)| *name)) {
        Some(near) => {
            let path = names
                .iter()
                .find(|(name, _)| *name == near)
                .map_or("crio", |(_, path)| path);
            format!("; did you mean `{near}` of [{path}]?")
        }
        None => String::new(),
    }
}

/// The table that has a key of exactly this name.
fn elsewhere<'a>(known: &'a [(String, &'static [schema::Key])], name: &str) -> Option<&'a str> {
    let has = |keys: &[schema::Key]| keys.iter().any(|key| key.name == name);
    known
        .iter()
        .find(|(_, keys)| has(keys))
        .map(|(path, _)| path.as_str())
}
