//! Trust: whether policy.json accepts an image.
//!
//! `policy` is the file, `scope` says which part of it decides, `signed_by` and `sigstore` are the
//! requirements that look at signatures, `verdict` what they look at and what they say. `find` looks
//! for signatures where `registries_d` says, `stored` keeps them with the image. The files are looked
//! at for every decision, so an edit needs no reload; a policy is read only when it changed.

mod cache;
mod check;
mod find;
mod identity;
#[cfg(feature = "openpgp")]
mod openpgp;
#[cfg(not(feature = "openpgp"))]
#[path = "openpgp_absent.rs"]
mod openpgp;
mod payload;
mod policy;
mod registries_d;
mod scope;
mod signed_by;
mod sigstore;
mod stored;
mod strict;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;

use super::error::ImageError;
use cache::Cache;
pub use find::{digest, signatures};
use policy::Policy;
pub use scope::Origin;
pub use stored::{Kept, loaded, texts};
pub use verdict::{Answer, Evidence, SignatureVerdict, Verdict};

/// Which files decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// policy.json.
    pub policy: PathBuf,
    /// Directory with a policy of its own for some Kubernetes namespaces, `NAMESPACE.json`.
    pub namespaces: Option<PathBuf>,
    /// Directory that says where signatures are.
    pub registries_d: PathBuf,
    /// Where simple signatures are looked for when no file there says it.
    pub lookaside: PathBuf,
}

impl Default for Settings {
    /// The field's usual files.
    fn default() -> Settings {
        Settings {
            policy: "/etc/containers/policy.json".into(),
            namespaces: None,
            registries_d: "/etc/containers/registries.d".into(),
            lookaside: "/var/lib/containers/sigstore".into(),
        }
    }
}

/// The decisions. One a daemon.
#[derive(Debug)]
pub struct Trust {
    settings: Settings,
    cache: Cache,
}

impl Trust {
    /// Reads nothing yet.
    pub fn new(settings: Settings) -> Trust {
        Trust {
            settings,
            cache: Cache::default(),
        }
    }

    /// The files.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What can be said before there is any evidence: `Some` is the verdict, `None` that there has
    /// to be evidence. Blocking, but two `stat`s where the files are as they were.
    ///
    /// # Errors
    /// When there is no policy, or it cannot be read.
    pub fn first_look(
        &self,
        origin: Origin<'_>,
        namespace: &str,
    ) -> Result<Option<Verdict>, ImageError> {
        let (path, policy) = self.policy(namespace)?;
        let (scope, requirements) = policy.requirements(origin.transport(), &origin.scopes());
        let mut answers = Vec::new();
        let mut open = false;
        for requirement in requirements {
            match requirement.without_evidence() {
                None => open = true,
                Some(outcome) => answers.push(Answer {
                    requirement: requirement.to_string(),
                    outcome,
                }),
            }
        }
        let refused = answers.iter().any(|answer| answer.outcome.is_err());
        Ok((refused || !open).then_some(Verdict {
            policy: path,
            scope,
            answers,
        }))
    }

    /// The verdict of every requirement on the evidence. Reads key files: blocking.
    ///
    /// # Errors
    /// When there is no policy, or it cannot be read.
    pub fn verdict(
        &self,
        origin: Origin<'_>,
        namespace: &str,
        evidence: &Evidence,
    ) -> Result<Verdict, ImageError> {
        let (policy_path, policy) = self.policy(namespace)?;
        let (scope, requirements) = policy.requirements(origin.transport(), &origin.scopes());
        let answer = |requirement: &policy::Requirement| Answer {
            requirement: requirement.to_string(),
            outcome: requirement.check(evidence),
        };
        Ok(Verdict {
            policy: policy_path,
            scope,
            answers: requirements.iter().map(answer).collect(),
        })
    }

    /// The policy for a namespace: its own, where there is one, or the one for all.
    fn policy(&self, namespace: &str) -> Result<(PathBuf, Arc<Policy>), ImageError> {
        if let Some(file) = self.namespaced(namespace)
            && let Some(policy) = self.cache.policy(&file)?
        {
            return Ok((file, policy));
        }
        let file = &self.settings.policy;
        match self.cache.policy(file)? {
            Some(policy) => Ok((file.clone(), policy)),
            None => Err(ImageError::PolicyMissing { path: file.clone() }),
        }
    }

    fn namespaced(&self, namespace: &str) -> Option<PathBuf> {
        let directory = self.settings.namespaces.as_ref()?;
        // a namespace is a DNS label; anything else must not leave the directory
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let plain = !namespace.is_empty() && namespace.len() <= 63 && namespace.bytes().all(label);
        plain.then(|| directory.join(format!("{namespace}.json")))
    }
}

impl Verdict {
    /// The verdict as an error, where it is a refusal.
    ///
    /// # Errors
    /// When the image is refused: why.
    pub fn or_refused(self, image: &dyn std::fmt::Display) -> Result<(), ImageError> {
        if self.accepted() {
            return Ok(());
        }
        Err(ImageError::Rejected {
            reference: image.to_string(),
            reason: self.reason(),
        })
    }
}

#[cfg(test)]
mod tests;
