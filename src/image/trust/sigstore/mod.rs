//! `sigstoreSigned`: signatures as cosign makes them and registries keep them.
//!
//! `requirement` is the policy's text, `roots` what it trusts, `attachment` what a registry has;
//! `rekor`, `certificate`, `key` and `pem` read one format each. Which requirement applies
//! and what an identity matches is the rest of `trust/`.
//!
//! All of it is offline: keys, authorities and logs are the policy's, and there is no TUF. The
//! bundles that newer cosigns attach as referrers are not read, as in containers/image 5.42.

mod attachment;
mod certificate;
mod key;
mod pem;
mod rekor;
mod requirement;
mod roots;

use std::fmt;

use super::verdict::{Accepted, Evidence, Refusal, Signature, SignatureVerdict, SigstoreSignature};
pub use attachment::fetch;
pub use requirement::SigstoreSigned;
use requirement::{Signer, Source};
use roots::Roots;

impl SigstoreSigned {
    /// Why the keys and authorities that it names cannot be used. Blocking.
    pub fn trouble(&self) -> Option<String> {
        Roots::read(self).err()
    }

    /// Whether one of the image's sigstore signatures is by whom the policy trusts, over this
    /// manifest and for this name. Reads the key files: blocking.
    ///
    /// # Errors
    /// Says of every signature why it does not count.
    pub fn check(&self, evidence: &Evidence) -> Result<Accepted, Refusal> {
        let mut signatures: Vec<SignatureVerdict> = Vec::new();
        // without a signature the keys need not be there, as in containers/image
        let mut roots = None;
        for found in &evidence.signatures {
            let Signature::Sigstore(attachment) = &found.signature else {
                continue;
            };
            if attachment.media_type != attachment::PAYLOAD_TYPE {
                continue;
            }
            let roots = match &roots {
                Some(roots) => roots,
                None => roots.insert(Roots::read(self).map_err(Refusal::because)?),
            };
            let outcome = self.check_one(roots, attachment, evidence);
            signatures.push(SignatureVerdict {
                place: found.place.clone(),
                outcome: outcome.clone(),
            });
            if let Ok(by) = outcome {
                return Ok(Accepted { by, signatures });
            }
        }
        Err(Refusal::of_signatures(signatures))
    }

    fn check_one(
        &self,
        roots: &Roots<'_>,
        attachment: &SigstoreSignature,
        evidence: &Evidence,
    ) -> Result<String, String> {
        let (payload, by) = roots.authenticate(attachment)?;
        if payload.manifest_digest != evidence.manifest_digest {
            return Err(format!(
                "a good signature by {by}, but over manifest {}, and this image's is {}",
                payload.manifest_digest, evidence.manifest_digest
            ));
        }
        let reference = evidence.reference.as_ref();
        self.identity
            .check(reference, &payload.reference)
            .map_err(|reason| format!("a good signature by {by}, but {reason}"))?;
        Ok(format!("signature by {by}"))
    }
}

impl fmt::Display for SigstoreSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sigstoreSigned (")?;
        match &self.signer {
            Signer::Keys(sources) => list(f, "key", sources)?,
            Signer::Fulcio(fulcio) => write!(
                f,
                "fulcio {}, {} of {}",
                fulcio.authority, fulcio.subject_email, fulcio.oidc_issuer
            )?,
            Signer::Pki(pki) => {
                write!(f, "pki {}", pki.roots)?;
                for name in [&pki.subject_email, &pki.subject_hostname] {
                    name.iter().try_for_each(|name| write!(f, ", {name}"))?;
                }
            }
        }
        if !self.rekor.is_empty() {
            list(f, ", rekor", &self.rekor)?;
        }
        write!(f, ", {})", self.identity)
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, sources: &[Source]) -> fmt::Result {
    f.write_str(what)?;
    sources.iter().try_for_each(|source| write!(f, " {source}"))
}

#[cfg(test)]
mod tests;
