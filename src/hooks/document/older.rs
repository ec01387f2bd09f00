//! A hook file of oci-hooks(5)'s 0.1.0 schema: conditions beside the hook, of which one that holds is
//! enough.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Content, Document, When, WireHook, pattern, patterns, steps};

/// What such a file's `version` is, where it has one.
pub(super) const VERSION: &str = "0.1.0";

/// What a file says; its keys are in lower case.
///
/// # Errors
/// When it does not even say for which containers it is.
pub(super) fn document(whole: &Map<String, Value>) -> Result<Document, String> {
    Ok(Document {
        when: when(whole)?,
        content: content(whole),
    })
}

fn when(whole: &Map<String, Value>) -> Result<When, String> {
    let (key, commands) = list(whole, ["cmds", "cmd"])?;
    let commands = patterns(key, &commands.unwrap_or_default())?;
    let (key, values) = list(whole, ["annotations", "annotation"])?;
    let values = patterns(key, &values.unwrap_or_default())?;
    let any_key = pattern(key, "")?;
    let has_bind_mounts = one(whole, "hasbindmounts")?;
    // Of an annotation only the value is looked at.
    let annotations = values.into_iter().map(|value| (any_key.clone(), value));
    let when = When {
        any: true,
        always: None,
        has_bind_mounts,
        annotations: annotations.collect(),
        commands,
    };
    if when.annotations.is_empty() && when.commands.is_empty() && has_bind_mounts.is_none() {
        return Err(format!(
            "no condition; without a `when` (version {VERSION}) there can be `cmds`, `annotations` \
             and `hasbindmounts`"
        ));
    }
    Ok(when)
}

fn content(whole: &Map<String, Value>) -> Result<Content, String> {
    let path: String = one(whole, "hook")?.ok_or("`hook` is missing")?;
    let arguments: Option<Vec<String>> = one(whole, "arguments")?;
    let hook = WireHook {
        // the program's name is the first of its arguments; here the file leaves it out
        args: arguments.map(|rest| [vec![path.clone()], rest].concat()),
        path: Some(path),
        ..WireHook::default()
    };
    let hook = hook
        .check()
        .map_err(|problem| format!("`hook`: {problem}"))?;
    let (key, stages) = list(whole, ["stages", "stage"])?;
    let stages = stages.ok_or("`stages` is missing")?;
    Ok(Content {
        steps: steps(key, &stages)?,
        hook,
    })
}

/// What a list that has two names holds, and by which of them.
fn list<'a>(
    whole: &Map<String, Value>,
    [name, synonym]: [&'a str; 2],
) -> Result<(&'a str, Option<Vec<String>>), String> {
    match (one(whole, name)?, one(whole, synonym)?) {
        (Some(_), Some(_)) => Err(format!("there are both `{name}` and `{synonym}`")),
        (None, Some(found)) => Ok((synonym, Some(found))),
        (found, None) => Ok((name, found)),
    }
}

/// The value of a key; `null` is none.
fn one<T: DeserializeOwned>(whole: &Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    let value = whole.get(key).unwrap_or(&Value::Null);
    Option::deserialize(value).map_err(|error| format!("`{key}`: {error}"))
}
