//! Whole configurations as JSON, and the rules that need one.

mod golden;
mod mounts;
mod process;
mod refusals;
mod resources;
mod security;

use serde_json::Value;

use super::fixture::Fixture;

fn linux(json: &Value) -> &Value {
    &json["linux"]
}

fn destinations(json: &Value) -> Vec<&str> {
    let mounts = json["mounts"].as_array().unwrap();
    mounts
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect()
}

/// A change to the smallest container, and how the refusal begins.
type Refusal = (fn(&mut Fixture), &'static str);

fn refuses(cases: &[Refusal]) {
    for (change, want) in cases {
        let mut it = Fixture::minimal();
        change(&mut it);
        let error = it.error();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}
