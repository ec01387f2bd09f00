//! One hook file: oci-hooks(5), the 1.0.0 schema.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::Hook;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::{HookStep, Scene};

/// The one version of the schema that is read.
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

/// The conditions; all of those that are there have to hold.
#[derive(Debug)]
struct When {
    always: Option<bool>,
    has_bind_mounts: Option<bool>,
    /// Key and value.
    annotations: Vec<(Regex, Regex)>,
    commands: Vec<Regex>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireWhen {
    always: Option<bool>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    commands: Vec<String>,
    has_bind_mounts: Option<bool>,
}

#[derive(Deserialize)]
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
        let when = whole.get("when").ok_or_else(|| match version(&whole) {
            Ok(()) => "`when` is missing".to_owned(),
            Err(problem) => problem,
        })?;
        Ok(Document {
            when: When::parse(when).map_err(|problem| format!("`when`: {problem}"))?,
            content: content(&whole),
        })
    }

    /// Whether the hook is for this container.
    pub(super) fn matches(&self, scene: &Scene) -> bool {
        self.when.matches(scene)
    }
}

fn version(whole: &Value) -> Result<(), String> {
    match whole.get("version") {
        Some(Value::String(version)) if version == VERSION => Ok(()),
        Some(other) => Err(format!("`version` is {other}, known is \"{VERSION}\"")),
        None => Err(format!(
            "`version` is missing, known is \"{VERSION}\" (files of 0.1.0 have none and are not read)"
        )),
    }
}

fn content(whole: &Value) -> Result<Content, String> {
    version(whole)?;
    let hook = whole.get("hook").ok_or("`hook` is missing")?;
    let hook = WireHook::deserialize(hook).map_err(|error| format!("`hook`: {error}"))?;
    let stages = whole.get("stages").ok_or("`stages` is missing")?;
    let stages: Vec<String> =
        Deserialize::deserialize(stages).map_err(|error| format!("`stages`: {error}"))?;
    let step = |name: &String| {
        HookStep::of(name).ok_or_else(|| {
            format!(
                "`stages`: `{}` is no stage; there are prestart, createRuntime, createContainer, \
                 startContainer, poststart and poststop",
                shown(name)
            )
        })
    };
    let mut steps: Vec<HookStep> = Vec::new();
    for name in &stages {
        // CRI-O's rule: the deprecated step is the runtime's own
        let step = match step(name)? {
            HookStep::Prestart => HookStep::CreateRuntime,
            step => step,
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    Ok(Content {
        steps,
        hook: hook
            .check()
            .map_err(|problem| format!("`hook`: {problem}"))?,
    })
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
    fn parse(value: &Value) -> Result<When, String> {
        let wire = WireWhen::deserialize(value).map_err(|error| error.to_string())?;
        if wire.annotations.len().max(wire.commands.len()) > MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} expressions of one kind"));
        }
        let pair = |(key, value): (&String, &String)| {
            let kind = |name: &str| format!("annotations: {name}");
            Ok((pattern(&kind("key"), key)?, pattern(&kind("value"), value)?))
        };
        let when = When {
            always: wire.always,
            has_bind_mounts: wire.has_bind_mounts,
            annotations: wire
                .annotations
                .iter()
                .map(pair)
                .collect::<Result<_, String>>()?,
            commands: wire
                .commands
                .iter()
                .map(|text| pattern("commands", text))
                .collect::<Result<_, _>>()?,
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
        // a condition that is `false` holds for nobody, as in CRI-O
        self.always.unwrap_or(true)
            && self
                .has_bind_mounts
                .is_none_or(|wanted| wanted && scene.has_bind_mounts)
            && self.annotations.iter().all(annotated)
            && (self.commands.is_empty()
                || self.commands.iter().any(|one| one.is_match(scene.command)))
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
