//! Which keys differ between two configurations.

use std::collections::BTreeSet;

use super::schema::Table;
use super::tables::Config;

/// The full names of the keys whose values differ, in order; of a table that only one of the two has,
/// the table's name (`crio.runtime.runtimes.kata`).
pub fn changed(before: &Config, after: &Config) -> Vec<String> {
    let mut found = BTreeSet::new();
    compare("crio", before, after, &mut found);
    found.into_iter().collect()
}

fn compare(path: &str, before: &dyn Table, after: &dyn Table, found: &mut BTreeSet<String>) {
    for key in before.keys() {
        if before.get(key.name) != after.get(key.name) {
            found.insert(format!("{path}.{}", key.name));
        }
    }
    let (before, after) = (before.children(), after.children());
    for (name, table) in &before {
        let path = format!("{path}.{name}");
        match after.iter().find(|(other, _)| other == name) {
            Some((_, other)) => compare(&path, *table, *other, found),
            None => drop(found.insert(path)),
        }
    }
    let added = after
        .iter()
        .filter(|(name, _)| before.iter().all(|(other, _)| other != name));
    found.extend(added.map(|(name, _)| format!("{path}.{name}")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tables::Handler;

    #[test]
    fn keys_are_told_by_their_full_names_and_tables_that_come_or_go_by_theirs() {
        let before = Config::default();
        assert_eq!(changed(&before, &before), Vec::<String>::new());
        let mut after = before.clone();
        after.image.pinned_images.push("a".into());
        after.root = "/elsewhere".into();
        let kata = Handler::default();
        after.runtime.runtimes.insert("kata".into(), kata.clone());
        let names = [
            "crio.image.pinned_images",
            "crio.root",
            "crio.runtime.runtimes.kata",
        ];
        assert_eq!(changed(&before, &after), names);
        assert_eq!(changed(&after, &before), names);
        let mut other = after.clone();
        let changed_kata = Handler {
            privileged_without_host_devices: true,
            ..kata
        };
        other.runtime.runtimes.insert("kata".into(), changed_kata);
        assert_eq!(
            changed(&after, &other),
            ["crio.runtime.runtimes.kata.privileged_without_host_devices"]
        );
    }
}
