//! `sigstoreSigned`: signatures of sigstore, attached to the image in its registry.

use std::fmt;

use super::strict::Fields;
use super::verdict::{Accepted, Evidence, Refusal};

/// A requirement of type `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSigned {}

impl SigstoreSigned {
    /// Reads the fields of a requirement; `type` is taken already.
    ///
    /// # Errors
    /// Says what is wrong, in words.
    pub fn parse(_fields: Fields) -> Result<SigstoreSigned, String> {
        Ok(SigstoreSigned {})
    }

    /// Whether the evidence meets the requirement. Reads key files: blocking.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, _evidence: &Evidence) -> Result<Accepted, Refusal> {
        Err(Refusal::because(
            "this build cannot verify signatures of sigstore",
        ))
    }
}

impl fmt::Display for SigstoreSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sigstoreSigned")
    }
}
