//! docs/pains.md says which tests stand for which pain: each of them must be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How many pains the page has.
const PAINS: usize = 34;

/// The rows: (number, what proves it).
fn rows(page: &str) -> Vec<(String, String)> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    page.lines()
        .filter(|line| line.starts_with("| P"))
        .map(|line| {
            let cells = cells(line);
            assert_eq!(cells.len(), 4, "not four columns: {line}");
            (cells[0].clone(), cells[3].clone())
        })
        .collect()
}

/// The tests that a cell names: `file::test`, in backticks, without `.rs`.
fn named(cell: &str) -> Vec<(&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).collect()
}

/// The tests of a file.
fn tests_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("docs/pains.md names {}: {error}", file.display()));
    let mut tests = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line
            .strip_prefix("async fn ")
            .or_else(|| line.strip_prefix("fn "));
        if let Some(function) = function
            && marked
        {
            let name = function.split(['(', '<']).next().unwrap();
            tests.push(name.to_owned());
            marked = false;
        }
    }
    tests
}

#[test]
fn every_pain_has_a_row_and_every_test_that_it_names_exists() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(tree.join("docs/pains.md")).unwrap();
    let rows = rows(&page);
    let numbers: Vec<&str> = rows.iter().map(|(number, _)| number.as_str()).collect();
    let expected: Vec<String> = (1..=PAINS).map(|number| format!("P{number}")).collect();
    assert_eq!(numbers, expected);
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for (number, cell) in &rows {
        let named = named(cell);
        // Without a test it says why there is none.
        if named.is_empty() && !cell.starts_with("none: ") {
            missing.push(format!(
                "{number}: neither a test nor `none: ` and a reason"
            ));
        }
        for (file, test) in named {
            let path = tree.join(format!("{file}.rs"));
            let tests = files.entry(file).or_insert_with(|| tests_of(&path));
            if !tests.iter().any(|known| known == test) {
                missing.push(format!("{number}: {file}.rs has no test {test}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
