//! What a decision is made on and what it says: the evidence that belongs to an image, the answer of
//! one requirement, and the verdict that joins them, told so that a person can follow it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use oci_spec::image::Digest;

use crate::image::reference::Reference;

/// All that requirements look at.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The image as its user named it: no mirror, no rewriting. `None`: an archive, which has no
    /// name that a signature could be for.
    pub reference: Option<Reference>,
    /// Digest of the image's manifest (not of an index that led to it), computed, not believed.
    pub manifest_digest: Digest,
    /// The signatures that came with the image.
    pub signatures: Vec<Found>,
    /// Why signatures could not be looked for; a requirement that needs one tells it.
    pub trouble: Option<String>,
}

/// A signature and where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// For people: a URL, or `TAG layer 1`.
    pub place: String,
    /// The signature, not verified.
    pub signature: Signature,
}

/// A signature as it came: nothing in it is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Simple signing: an OpenPGP signed message.
    Simple(Vec<u8>),
    /// A sigstore attachment.
    Sigstore(SigstoreSignature),
}

/// A layer of the image that carries sigstore signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSignature {
    /// The layer's media type.
    pub media_type: String,
    /// The layer's bytes.
    pub payload: Vec<u8>,
    /// The layer's annotations; the signature itself is one.
    pub annotations: BTreeMap<String, String>,
}

/// A requirement is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// By what: `signature by key FINGERPRINT`, for people.
    pub by: String,
    /// Every signature that was looked at, in order; the last one was good.
    pub signatures: Vec<SignatureVerdict>,
}

/// A requirement is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, where it is not for any signature (`no signature exists`, a key that cannot be read).
    pub reason: String,
    /// Every signature that was looked at and why it does not count.
    pub signatures: Vec<SignatureVerdict>,
}

/// What became of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureVerdict {
    /// [`Found::place`].
    pub place: String,
    /// Who signed, or why it does not count.
    pub outcome: Result<String, String>,
}

impl Refusal {
    /// A refusal that no signature could change.
    pub fn because(reason: impl Into<String>) -> Refusal {
        Refusal {
            reason: reason.into(),
            signatures: Vec::new(),
        }
    }

    /// The refusal after all `signatures` were looked at and none was good.
    pub fn of_signatures(signatures: Vec<SignatureVerdict>) -> Refusal {
        let reason = match signatures.len() {
            0 => "a signature is required, but the image has none",
            1 => "its signature is not accepted",
            _ => "none of its signatures is accepted",
        };
        Refusal {
            reason: reason.to_owned(),
            signatures,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        let mut separator = ": ";
        for signature in &self.signatures {
            if let Err(reason) = &signature.outcome {
                write!(f, "{separator}{}: {reason}", signature.place)?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// The answer of one requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The requirement: `signedBy (keyPath "/k.gpg", matchExact)`.
    pub requirement: String,
    /// What it says.
    pub outcome: Result<Accepted, Refusal>,
}

/// What a policy says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The policy's file.
    pub policy: PathBuf,
    /// The scope in it that decides: `transports.docker "quay.io"`, or `default`.
    pub scope: String,
    /// The answers of all the scope's requirements, in their order. All must be met.
    pub answers: Vec<Answer>,
}

impl Verdict {
    /// Whether every requirement is met.
    pub fn accepted(&self) -> bool {
        // the policy's parser refuses empty lists; one that came here anyhow accepts nothing
        !self.answers.is_empty() && self.answers.iter().all(|answer| answer.outcome.is_ok())
    }

    /// Why the image is refused: the scope and the first requirement that is not met.
    pub fn reason(&self) -> String {
        let place = format!("{} scope {}", self.policy.display(), self.scope);
        let refused = self
            .answers
            .iter()
            .find_map(|answer| Some((&answer.requirement, answer.outcome.as_ref().err()?)));
        let mut reason = format!("refused by {place}");
        if let Some((requirement, refusal)) = refused {
            // writing to a String cannot fail
            let _ = write!(reason, ", requirement {requirement}: {refusal}");
        }
        reason
    }
}
