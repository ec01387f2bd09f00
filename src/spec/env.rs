//! The process's environment.
//!
//! From the lowest in rank: PATH, the configuration's `default_env`, TERM and HOSTNAME; the
//! image's; the request's. A variable stands where it was first named, with the value it was
//! last given. HOME comes from /etc/passwd unless somebody named it.

use std::collections::HashMap;

use super::config::{ContainerConfig, EnvVar};
use super::error::SpecError;
use super::inputs::Inputs;

/// What containers have used since Docker's beginning.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in order, with an index: the kubelet sends one per service port of a namespace, so
/// there can be thousands.
#[derive(Default)]
struct Environment {
    entries: Vec<String>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn set(&mut self, key: &str, value: &str) {
        let entry = format!("{key}={value}");
        match self.places.get(key) {
            Some(place) => self.entries[*place] = entry,
            None => {
                self.places.insert(key.to_owned(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    fn set_text(&mut self, field: &str, entry: &str) -> Result<(), SpecError> {
        let Some((key, value)) = entry.split_once('=') else {
            let shown: String = entry.chars().take(64).collect();
            return Err(SpecError::invalid(
                field,
                format!("{shown:?} is not KEY=value"),
            ));
        };
        check(field, key, value)?;
        self.set(key, value);
        Ok(())
    }
}

/// `KEY=value` for each variable.
pub(super) fn env(inputs: &Inputs) -> Result<Vec<String>, SpecError> {
    let mut env = Environment::default();
    env.set("PATH", PATH);
    for entry in &inputs.settings.default_env {
        env.set_text("default_env", entry)?;
    }
    if inputs.config.tty {
        env.set("TERM", "xterm");
    }
    env.set("HOSTNAME", &inputs.pod.hostname);
    for entry in &inputs.image.env {
        env.set_text("environment of the image", entry)?;
    }
    for (key, value) in requested(inputs.config)? {
        env.set(key, value);
    }
    if !env.places.contains_key("HOME") {
        env.set("HOME", inputs.user.home.as_deref().unwrap_or("/"));
    }
    Ok(env.entries)
}

/// The request's variables, checked.
pub(super) fn requested(config: &ContainerConfig) -> Result<Vec<(&str, &str)>, SpecError> {
    config.envs.iter().map(text).collect()
}

fn text(EnvVar { key, value }: &EnvVar) -> Result<(&str, &str), SpecError> {
    let value = std::str::from_utf8(value).map_err(|error| SpecError::EnvNotUtf8 {
        key: key.clone(),
        at: error.valid_up_to(),
    })?;
    check("envs", key, value)?;
    Ok((key, value))
}

/// What an environment cannot hold. runc refuses these too, but names no field.
fn check(field: &str, key: &str, value: &str) -> Result<(), SpecError> {
    let problem = if key.is_empty() {
        "a variable has no name"
    } else if key.contains('=') {
        "the name has a `=` in it"
    } else if key.contains('\0') || value.contains('\0') {
        "name or value has a NUL character in it"
    } else {
        return Ok(());
    };
    let shown: String = key.chars().take(64).collect();
    Err(SpecError::invalid(field, format!("{shown:?}: {problem}")))
}
