//! One hook file: oci-hooks(5), the 1.0.0 schema; [`older`] has the 0.1.0 schema, which ends in
//! the same words.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::Hook;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{HookStep, Scene};

mod older;

/// The newer version of the schema.
const VERSION: &str = "1.0.0";
/// Most conditions of one kind in a file.
const MAX_PATTERNS: usize = 64;
/// The most memory that one compiled expression may take, in bytes.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// What a file says.
#[derive(Debug)]
pub(super) struct Document {
    /// For which containers.
    when: When,
    /// The hook and the steps that it is for; or what is wrong with them.
    pub(super) content: Result<Content, String>,
}

/// A hook and when it runs.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) steps: Vec<HookStep>,
    pub(super) hook: Hook,
}

/// The conditions; of those that are there all have to hold, or `any`.
#[derive(Debug)]
struct When {
    /// In files of 0.1.0.
    any: bool,
    always: Option<bool>,
    has_bind_mounts: Option<bool>,
    /// Key and value.
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
}

/// Its keys as [`keys`] has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireWhen {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(rename = "hasbindmounts")]
    has_bind_mounts: Option<bool>,
}

/// The program, before it is checked.
#[derive(Default, Deserialize)]
struct WireHook {
    path: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

impl Document {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it does not even say for which containers it is.
    pub(super) fn parse(text: &[u8]) -> Result<Document, String> {
        let whole: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let whole = keys(whole)?;
        let Some(when) = whole.get("when") else {
            return match whole.get("version") {
                None | Some(Value::Null) => older::document(&whole),
                Some(Value::String(older)) if older.is_empty() || older == older::VERSION => {
                    older::document(&whole)
                }
                Some(_) => Err(match version(&whole) {
                    Ok(()) => "`when` is missing".to_owned(),
                    Err(problem) => problem,
                }),
            };
        };
        let when = keys(when.clone()).and_then(When::parse);
        Ok(Document {
            when: when.map_err(|problem| format!("`when`: {problem}"))?,
            content: content(&whole),
        })
    }

    /// Whether the hook is for this container.
    pub(super) fn matches(&self, scene: &Scene) -> bool {
        self.when.matches(scene)
    }
}

/// An object with its keys in lower case: Go's decoder, by which these files are written, takes them
/// in any. It also takes a key twice, where nobody knows which of both the author meant.
fn keys(object: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(object) = object else {
        return Err("not an object".to_owned());
    };
    let mut lower = Map::with_capacity(object.len());
    for (key, value) in object {
        let key = key.to_lowercase();
        if lower.contains_key(&key) {
            return Err(format!("`{}` is there twice", shown(&key)));
        }
        lower.insert(key, value);
    }
    Ok(lower)
}

/// Sees that a file that has a `when` is of the version that has one.
fn version(whole: &Map<String, Value>) -> Result<(), String> {
    match whole.get("version") {
        Some(Value::String(version)) if version == VERSION => Ok(()),
        Some(Value::String(version)) if version == older::VERSION => Err(format!(
            "`version` is \"{version}\", which has no `when`; \"{VERSION}\" has one"
        )),
        Some(other) => Err(format!(
            "`version` is {other}, known are \"{VERSION}\" and \"{}\"",
            older::VERSION
        )),
        None => Err(format!(
            "`version` is missing, with a `when` it is \"{VERSION}\""
        )),
    }
}

fn content(whole: &Map<String, Value>) -> Result<Content, String> {
    version(whole)?;
    let hook = whole.get("hook").ok_or("`hook` is missing")?;
    let hook = keys(hook.clone())
        .and_then(|hook| {
            WireHook::deserialize(Value::Object(hook)).map_err(|error| error.to_string())
        })
        .and_then(WireHook::check)
        .map_err(|problem| format!("`hook`: {problem}"))?;
    let stages = whole.get("stages").ok_or("`stages` is missing")?;
    let stages: Vec<String> =
        Deserialize::deserialize(stages).map_err(|error| format!("`stages`: {error}"))?;
    Ok(Content {
        steps: steps("stages", &stages)?,
        hook,
    })
}

/// The steps that a list of stages stands for; `key` is the list's.
fn steps(key: &str, stages: &[String]) -> Result<Vec<HookStep>, String> {
    let step = |name: &String| {
        HookStep::of(name).ok_or_else(|| {
            format!(
                "`{key}`: `{}` is no stage; there are prestart, createRuntime, createContainer, \
                 startContainer, poststart and poststop",
                shown(name)
            )
        })
    };
    let mut steps: Vec<HookStep> = Vec::new();
    for name in stages {
        // CRI-O's rule: the deprecated step is the runtime's own
        let step = match step(name)? {
            HookStep::Prestart => HookStep::CreateRuntime,
            step => step,
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    Ok(steps)
}

impl WireHook {
    fn check(self) -> Result<Hook, String> {
        let path = self.path.filter(|path| !path.is_empty());
        let path = path.ok_or("`path` is missing")?;
        if !Path::new(&path).is_absolute() || path.contains('\0') {
            return Err(format!("`path` is `{}`, not absolute", shown(&path)));
        }
        if self.timeout.is_some_and(|seconds| seconds <= 0) {
            return Err("`timeout` is not above 0".to_owned());
        }
        let mut hook = Hook::default();
        hook.set_path(path.into());
        hook.set_args(self.args);
        hook.set_env(self.env);
        hook.set_timeout(self.timeout);
        Ok(hook)
    }
}

impl When {
    fn parse(value: Map<String, Value>) -> Result<When, String> {
        let wire =
            WireWhen::deserialize(Value::Object(value)).map_err(|error| error.to_string())?;
        bounded(wire.annotations.len().max(wire.commands.len()))?;
        let pair = |(key, value): (&String, &String)| {
            let kind = |name: &str| format!("annotations: {name}");
            Ok((pattern(&kind("key"), key)?, pattern(&kind("value"), value)?))
        };
        let when = When {
            any: false,
            always: wire.always,
            has_bind_mounts: wire.has_bind_mounts,
            annotations: wire
                .annotations
                .iter()
                .map(pair)
                .collect::<Result<_, String>>()?,
            commands: patterns("commands", &wire.commands)?,
        };
        let none = when.annotations.is_empty() && when.commands.is_empty();
        if none && when.always.is_none() && when.has_bind_mounts.is_none() {
            return Err(
                "it has no condition; `always`, `annotations`, `commands` and `hasBindMounts` \
                 can be"
                    .to_owned(),
            );
        }
        Ok(when)
    }

    fn matches(&self, scene: &Scene) -> bool {
        let annotated = |(key, value): &(Regex, Regex)| {
            let mut all = scene.annotations.iter();
            all.any(|(known, text)| key.is_match(known) && value.is_match(text))
        };
        let commanded = || self.commands.iter().any(|one| one.is_match(scene.command));
        if self.any {
            return self.always == Some(true)
                || self.has_bind_mounts == Some(true) && scene.has_bind_mounts
                || self.annotations.iter().any(annotated)
                || commanded();
        }
        // a condition that is `false` holds for nobody, as in CRI-O
        self.always.unwrap_or(true)
            && self
                .has_bind_mounts
                .is_none_or(|wanted| wanted && scene.has_bind_mounts)
            && self.annotations.iter().all(annotated)
            && (self.commands.is_empty() || commanded())
    }
}

/// The expressions of a list.
fn patterns(kind: &str, texts: &[String]) -> Result<Vec<Regex>, String> {
    bounded(texts.len())?;
    texts.iter().map(|text| pattern(kind, text)).collect()
}

fn bounded(count: usize) -> Result<(), String> {
    match count > MAX_PATTERNS {
        true => Err(format!("more than {MAX_PATTERNS} expressions of one kind")),
        false => Ok(()),
    }
}

/// POSIX extended expressions are a part of what is understood, as in Go. Matching takes time in
/// proportion to the text, whatever the expression.
fn pattern(kind: &str, text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| {
            // regex draws a picture on several lines, of which the last says it
            let error = error.to_string();
            let error = error.lines().last().unwrap_or_default().trim();
            format!("{kind} `{}` is no regular expression: {error}", shown(text))
        })
}

fn shown(text: &str) -> String {
    let shown: String = text.chars().take(128).collect();
    shown.escape_debug().to_string()
}
