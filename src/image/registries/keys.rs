//! Keys of registries.conf that do not exist, and where in a text something is.
//!
//! containers/image passes them over in silence, so files in the field may have some: they are told
//! and nothing else.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

const FILE: [&str; 7] = [
    "unqualified-search-registries",
    "short-name-mode",
    "registry",
    "aliases",
    "credential-helpers",
    // of podman's storage; images of this daemon have none of its layers
    "additional-layer-store-auth-helper",
    // of version 1, which is refused elsewhere
    "registries",
];
const REGISTRY: [&str; 7] = [
    "prefix",
    "location",
    "insecure",
    "blocked",
    "mirror-by-digest-only",
    "mirror",
    // a mirror's key, which is refused elsewhere
    "pull-from-mirror",
];
const MIRROR: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

/// Most that are told of one file.
const MAX_TOLD: usize = 16;

/// One line for each key that means nothing: its place, its name and the nearest one that does.
pub(super) fn unknown(text: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut told = Vec::new();
    look(text, table.get_ref(), &FILE, "", &mut told);
    for registry in tables(table.get_ref(), "registry") {
        look(text, registry, &REGISTRY, " of [[registry]]", &mut told);
        for mirror in tables(registry, "mirror") {
            look(text, mirror, &MIRROR, " of [[registry.mirror]]", &mut told);
        }
    }
    told.truncate(MAX_TOLD);
    told
}

/// The tables of an array.
fn tables<'a, 'b>(of: &'a DeTable<'b>, name: &str) -> Vec<&'a DeTable<'b>> {
    match of.get(name).map(toml::Spanned::get_ref) {
        Some(DeValue::Array(all)) => {
            let tables = all.iter().filter_map(|value| match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => None,
            });
            tables.collect()
        }
        _ => Vec::new(),
    }
}

fn look(text: &str, table: &DeTable<'_>, known: &[&str], of: &str, told: &mut Vec<String>) {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if known.contains(&name) {
            continue;
        }
        let hint = nearest(name, known)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let name = name.escape_debug();
        let at = place(text, &key.span());
        told.push(format!(
            "{at}: unknown key `{name}`{of} has no effect{hint}"
        ));
    }
}

/// The known key that was meant: at most a third of the letters may be wrong.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase().replace('_', "-");
    let allowed = (name.chars().count() / 3).max(1);
    let distances = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), *known));
    let near = distances.filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `line 3, column 5`, both from 1, the column in characters.
pub(super) fn place(text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("line {line}, column {column}")
}
