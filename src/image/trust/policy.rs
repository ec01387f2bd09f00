//! The text of policy.json (containers-policy.json(5)), read as strictly as containers/image does:
//! what is not understood, or written twice, is an error, because the other reading may be the
//! unsafe one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::identity::SignedIdentity;
use super::signed_by::SignedBy;
use super::sigstore::SigstoreSigned;
use super::strict::{self, Fields};
use super::verdict::{Accepted, Evidence, Refusal};

/// A parsed policy.
#[derive(Debug)]
pub struct Policy {
    default: Vec<Requirement>,
    transports: BTreeMap<String, Scopes>,
}

type Scopes = BTreeMap<String, Vec<Requirement>>;

/// What an image must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    InsecureAcceptAnything,
    /// What no image can.
    Reject,
    /// A simple signature by one of the keys.
    SignedBy(SignedBy),
    /// Known to the manual page, but implemented by nobody; no image can meet it.
    SignedBaseLayer(SignedIdentity),
    /// A sigstore signature.
    SigstoreSigned(Box<SigstoreSigned>),
}

impl Policy {
    /// Parses the file's text; the error is for `path: …`.
    ///
    /// # Errors
    /// Says what is wrong and where, in words.
    pub fn parse(text: &[u8]) -> Result<Policy, String> {
        let mut fields = Fields::of(strict::parse(text)?, "policy")?;
        let default = requirements(fields.value("default")?, "default")?;
        let mut transports = BTreeMap::new();
        if let Some(value) = fields.take("transports") {
            for (transport, value) in Fields::of(value, "transports")?.rest() {
                let scopes = scopes(&transport, value)?;
                transports.insert(transport, scopes);
            }
        }
        fields.finish()?;
        Ok(Policy {
            default,
            transports,
        })
    }

    /// The scope that decides and its requirements: the first of `scopes` that the transport has,
    /// then the transport's default (the empty scope), then the policy's.
    pub fn requirements(&self, transport: &str, scopes: &[String]) -> (String, &[Requirement]) {
        if let Some(table) = self.transports.get(transport) {
            let wanted = scopes.iter().map(String::as_str).chain([""]);
            for scope in wanted {
                if let Some(requirements) = table.get(scope) {
                    return (format!("transports.{transport} {scope:?}"), requirements);
                }
            }
        }
        ("default".to_owned(), &self.default)
    }
}

impl Policy {
    /// The requirements that no image can meet because of what they name, with their places: keys
    /// that are not there, or cannot be read. Blocking.
    pub fn troubles(&self) -> Vec<(String, String)> {
        let default = [("default".to_owned(), &self.default)];
        let scoped = self.transports.iter().flat_map(|(transport, scopes)| {
            let place = move |scope: &String| format!("transports.{transport} {scope:?}");
            scopes.iter().map(move |(scope, all)| (place(scope), all))
        });
        let mut found = Vec::new();
        for (place, requirements) in default.into_iter().chain(scoped) {
            let troubles = requirements.iter().filter_map(Requirement::trouble);
            found.extend(troubles.map(|reason| (place.clone(), reason)));
        }
        found
    }
}

fn scopes(transport: &str, value: Value) -> Result<Scopes, String> {
    let place = format!("transports.{transport}");
    let mut scopes = Scopes::new();
    for (scope, value) in Fields::of(value, place.as_str())?.rest() {
        check_scope(transport, &scope).map_err(|reason| format!("{place} {scope:?}: {reason}"))?;
        let requirements = requirements(value, &format!("{place} {scope:?}"))?;
        scopes.insert(scope, requirements);
    }
    Ok(scopes)
}

/// Whether a scope can ever match, for the transports that say so (containers-policy.json(5),
/// "Supported transports and their scopes").
fn check_scope(transport: &str, scope: &str) -> Result<(), &'static str> {
    if scope.is_empty() {
        return Ok(());
    }
    match transport {
        "docker-archive" | "tarball" => Err("this transport has only the scope \"\""),
        "dir" | "oci" | "oci-archive" | "sif" => {
            let clean: std::path::PathBuf = Path::new(scope).components().collect();
            match scope.starts_with('/') && scope != "/" && clean.as_os_str() == scope {
                true if !scope.contains("/../") && !scope.ends_with("/..") => Ok(()),
                _ => Err("the scope must be an absolute path in its shortest form, and not /"),
            }
        }
        _ => Ok(()),
    }
}

/// A list that is not empty: an empty one would accept everything by accident.
fn requirements(value: Value, place: &str) -> Result<Vec<Requirement>, String> {
    let Value::Array(list) = value else {
        return Err(format!("{place}: a list of requirements is wanted"));
    };
    if list.is_empty() {
        return Err(format!(
            "{place}: the list of requirements is empty; write insecureAcceptAnything or reject"
        ));
    }
    list.into_iter()
        .map(|value| Requirement::parse(value).map_err(|reason| format!("{place}: {reason}")))
        .collect()
}

impl Requirement {
    fn parse(value: Value) -> Result<Requirement, String> {
        let mut fields = Fields::of(value, "requirement")?;
        let kind = fields.text("type")?;
        let mut fields = fields.named(format!("requirement {kind}"));
        let requirement = match kind.as_str() {
            "insecureAcceptAnything" => Requirement::InsecureAcceptAnything,
            "reject" => Requirement::Reject,
            "signedBy" => return SignedBy::parse(fields).map(Requirement::SignedBy),
            "sigstoreSigned" => {
                let signed = SigstoreSigned::parse(fields)?;
                return Ok(Requirement::SigstoreSigned(Box::new(signed)));
            }
            "signedBaseLayer" => {
                let identity = fields.value("baseLayerIdentity")?;
                Requirement::SignedBaseLayer(SignedIdentity::parse(Some(identity))?)
            }
            unknown => return Err(format!("requirement type {unknown:?} is unknown")),
        };
        fields.finish()?;
        Ok(requirement)
    }

    /// Why no image can meet it, whatever its signatures; `reject` means to be that.
    fn trouble(&self) -> Option<String> {
        match self {
            Requirement::InsecureAcceptAnything | Requirement::Reject => None,
            Requirement::SignedBaseLayer(_) => {
                let refused = self.without_evidence()?.err()?;
                Some(refused.to_string())
            }
            Requirement::SignedBy(signed) => signed.trouble(),
            Requirement::SigstoreSigned(signed) => signed.trouble(),
        }
    }

    /// The answer that no evidence changes; `None` where there has to be some.
    pub fn without_evidence(&self) -> Option<Result<Accepted, Refusal>> {
        match self {
            Requirement::InsecureAcceptAnything => Some(Ok(Accepted {
                by: "anything is accepted".to_owned(),
                signatures: Vec::new(),
            })),
            Requirement::Reject => Some(Err(Refusal::because("every image is rejected"))),
            Requirement::SignedBaseLayer(_) => Some(Err(Refusal::because(
                "signedBaseLayer cannot be checked by this or any other program; use signedBy",
            ))),
            Requirement::SignedBy(signed) => signed.never().map(Err),
            Requirement::SigstoreSigned(_) => None,
        }
    }

    /// Whether the evidence meets the requirement. Reads key files: blocking.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, evidence: &Evidence) -> Result<Accepted, Refusal> {
        let needs_signature = self.without_evidence().is_none();
        if let Some(trouble) = evidence.trouble.as_ref().filter(|_| needs_signature) {
            return Err(Refusal::because(format!(
                "a signature is required, but looking for it failed: {trouble}"
            )));
        }
        match self {
            Requirement::SignedBy(signed) => signed.check(evidence),
            Requirement::SigstoreSigned(signed) => signed.check(evidence),
            other => other
                .without_evidence()
                .unwrap_or_else(|| Err(Refusal::because("it cannot be checked"))),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::InsecureAcceptAnything => f.write_str("insecureAcceptAnything"),
            Requirement::Reject => f.write_str("reject"),
            Requirement::SignedBy(signed) => signed.fmt(f),
            Requirement::SignedBaseLayer(_) => f.write_str("signedBaseLayer"),
            Requirement::SigstoreSigned(signed) => signed.fmt(f),
        }
    }
}
