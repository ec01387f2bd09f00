//! The text of policy.json (containers-policy.json(5)), read as strictly as containers/image does:
//! what is not understood, or written twice, is an error, because the other reading may be the
//! unsafe one.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

/// A parsed policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    default: Requirements,
    #[serde(default)]
    transports: Unique<Unique<Requirements>>,
}

/// What an image must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing.
    InsecureAcceptAnything,
    /// What no image can.
    Reject,
    /// A type of the manual page that this build cannot check.
    Unsupported(String),
}

const KNOWN_BUT_UNSUPPORTED: [&str; 3] = ["signedBy", "signedBaseLayer", "sigstoreSigned"];

impl Policy {
    /// Parses the file's text; the error is for `path: …`.
    pub(super) fn parse(text: &str) -> Result<Policy, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The scope that decides and its requirements: the first of `scopes` that the transport has,
    /// then the transport's default (the empty scope), then the policy's.
    pub(super) fn requirements(
        &self,
        transport: &str,
        scopes: &[String],
    ) -> (String, &[Requirement]) {
        if let Some(table) = self.transports.0.get(transport) {
            let wanted = scopes.iter().map(String::as_str).chain([""]);
            for scope in wanted {
                if let Some(requirements) = table.0.get(scope) {
                    return (format!("transports.{transport} {scope:?}"), &requirements.0);
                }
            }
        }
        ("default".to_owned(), &self.default.0)
    }
}

/// A list that is not empty: an empty one would accept everything by accident.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<RawRequirement>")]
struct Requirements(Vec<Requirement>);

impl TryFrom<Vec<RawRequirement>> for Requirements {
    type Error = String;

    fn try_from(raw: Vec<RawRequirement>) -> Result<Requirements, String> {
        if raw.is_empty() {
            return Err(
                "a list of requirements is empty; write insecureAcceptAnything or reject".into(),
            );
        }
        raw.into_iter()
            .map(Requirement::try_from)
            .collect::<Result<_, _>>()
            .map(Requirements)
    }
}

#[derive(Debug)]
struct RawRequirement(BTreeMap<String, serde_json::Value>);

impl<'de> Deserialize<'de> for RawRequirement {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Unique::deserialize(deserializer).map(|unique| RawRequirement(unique.0))
    }
}

impl TryFrom<RawRequirement> for Requirement {
    type Error = String;

    fn try_from(raw: RawRequirement) -> Result<Requirement, String> {
        let Some(serde_json::Value::String(kind)) = raw.0.get("type") else {
            return Err("a requirement has no \"type\"".into());
        };
        let requirement = match kind.as_str() {
            "insecureAcceptAnything" => Requirement::InsecureAcceptAnything,
            "reject" => Requirement::Reject,
            // its fields are not judged: the image is refused whatever they say
            known if KNOWN_BUT_UNSUPPORTED.contains(&known) => {
                return Ok(Requirement::Unsupported(kind.clone()));
            }
            unknown => return Err(format!("requirement type {unknown:?} is unknown")),
        };
        match raw.0.keys().find(|key| *key != "type") {
            Some(key) => Err(format!("requirement {kind}: unknown field {key:?}")),
            None => Ok(requirement),
        }
    }
}

/// A JSON object whose keys may appear once only (serde's own maps let the last one win).
#[derive(Debug)]
pub(super) struct Unique<T>(pub(super) BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Unique<T> {
        Unique(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueVisitor<T> {
    type Value = Unique<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique<T>, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("{key:?} is written twice")));
            }
            let value = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Unique(map))
    }
}
