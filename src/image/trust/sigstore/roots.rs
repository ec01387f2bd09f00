//! What a `sigstoreSigned` requirement trusts, read: its keys, its authorities, its logs.

use std::time::SystemTime;

use rustls::pki_types::UnixTime;

use super::attachment;
use super::certificate::{Authorities, Issued};
use super::key::PublicKey;
use super::pem;
use super::rekor::{Subject, Timestamp};
use super::requirement::{Fulcio, Pki, Signer, SigstoreSigned, Source};
use crate::image::registries::read_bounded;
use crate::image::trust::payload::{Kind, Payload};
use crate::image::trust::verdict::SigstoreSignature;

/// See the module.
#[derive(Debug)]
pub(super) struct Roots<'a> {
    signer: Trusted<'a>,
    /// Empty where no log is asked for.
    logs: Vec<PublicKey>,
}

#[derive(Debug)]
enum Trusted<'a> {
    Keys(Vec<PublicKey>),
    Fulcio(&'a Fulcio, Authorities),
    Pki(&'a Pki, Authorities),
}

impl<'a> Roots<'a> {
    /// Reads the files that the requirement names. One bad key spoils all: it should be mended
    /// before it is needed.
    pub(super) fn read(requirement: &'a SigstoreSigned) -> Result<Roots<'a>, String> {
        let signer = match &requirement.signer {
            Signer::Keys(sources) => Trusted::Keys(keys(sources, "key")?),
            Signer::Fulcio(fulcio) => {
                let authority = fulcio.authority.text("Fulcio's authority")?;
                let authorities = Authorities::from_pem(&authority, None)
                    .map_err(|reason| format!("{}: {reason}", fulcio.authority))?;
                Trusted::Fulcio(fulcio, authorities)
            }
            Signer::Pki(pki) => {
                let roots = pki.roots.text("authorities")?;
                let between = pki.intermediates.as_ref();
                let between = between.map(|source| source.text("intermediate authorities"));
                let authorities = Authorities::from_pem(&roots, between.transpose()?.as_deref())
                    .map_err(|reason| format!("{}: {reason}", pki.roots))?;
                Trusted::Pki(pki, authorities)
            }
        };
        let logs = keys(&requirement.rekor, "Rekor key")?;
        if let Some(index) = logs.iter().position(|log| !log.is_ecdsa()) {
            return Err(format!(
                "{}: a Rekor key must be an ECDSA key",
                requirement.rekor[index]
            ));
        }
        Ok(Roots { signer, logs })
    }

    /// What the attachment says, if somebody trusted has signed it, and who that is.
    pub(super) fn authenticate(
        &self,
        attachment: &SigstoreSignature,
    ) -> Result<(Payload, String), String> {
        let signed = Signed::of(attachment)?;
        let by = match &self.signer {
            Trusted::Keys(keys) => self.by_key(keys, &signed)?,
            Trusted::Fulcio(fulcio, authorities) => {
                let timestamp = Timestamp::verify(signed.need(attachment::SET)?, &self.logs)?;
                let (leaf, key) = signed.certificate()?;
                timestamp.is_of(signed.subject(leaf.der()))?;
                let time = u64::try_from(timestamp.integrated)
                    .map_err(|_| "Rekor SET: its time is before 1970")?;
                let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(time));
                authorities.verify(&leaf, signed.chain(), time)?;
                leaf.check_oidc_issuer(&fulcio.oidc_issuer)?;
                leaf.check_email(&fulcio.subject_email)?;
                signed.by_any(&[key])?;
                format!("{} of {}", fulcio.subject_email, fulcio.oidc_issuer)
            }
            Trusted::Pki(pki, authorities) => {
                let (leaf, key) = signed.certificate()?;
                authorities.verify(&leaf, signed.chain(), now())?;
                if let Some(email) = &pki.subject_email {
                    leaf.check_email(email)?;
                }
                if let Some(host) = &pki.subject_hostname {
                    leaf.check_hostname(host)?;
                }
                signed.by_any(&[key])?;
                let names = [&pki.subject_email, &pki.subject_hostname];
                let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
                names.join(", ")
            }
        };
        let payload = Payload::parse(&attachment.payload, Kind::Sigstore)
            .map_err(|reason| format!("what it signs is not understood: {reason}"))?;
        Ok((payload, by))
    }

    fn by_key(&self, keys: &[PublicKey], signed: &Signed<'_>) -> Result<String, String> {
        if self.logs.is_empty() {
            return signed.by_any(keys);
        }
        let timestamp = Timestamp::verify(signed.need(attachment::SET)?, &self.logs)?;
        // an entry is of one key at most
        let mut reason = String::new();
        for key in keys {
            match timestamp.is_of(signed.subject(key.spki())) {
                Ok(()) => return signed.by_any(std::slice::from_ref(key)),
                Err(other) => reason = other,
            }
        }
        Err(reason)
    }
}

/// An attachment with its signature decoded.
struct Signed<'a> {
    attachment: &'a SigstoreSignature,
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    fn of(attachment: &'a SigstoreSignature) -> Result<Signed<'a>, String> {
        let mut signed = Signed {
            attachment,
            signature: Vec::new(),
        };
        let text = signed.need(attachment::SIGNATURE)?;
        signed.signature =
            pem::decode_base64(text).map_err(|error| format!("signature: {error}"))?;
        Ok(signed)
    }

    fn need(&self, annotation: &str) -> Result<&'a str, String> {
        let found = self.attachment.annotations.get(annotation);
        found
            .map(String::as_str)
            .ok_or_else(|| format!("annotation {annotation} is missing"))
    }

    fn chain(&self) -> Option<&'a str> {
        let chain = self.attachment.annotations.get(attachment::CHAIN);
        chain.map(String::as_str)
    }

    fn certificate(&self) -> Result<(Issued, PublicKey), String> {
        let leaf = Issued::from_pem(self.need(attachment::CERTIFICATE)?)?;
        let key = leaf.public_key()?;
        Ok((leaf, key))
    }

    fn subject<'s>(&'s self, signer: &'s [u8]) -> Subject<'s> {
        Subject {
            signer,
            signature: &self.signature,
            payload: &self.attachment.payload,
        }
    }

    /// By which of the keys the signature is.
    fn by_any(&self, keys: &[PublicKey]) -> Result<String, String> {
        let (payload, signature) = (&self.attachment.payload, &self.signature);
        let found = keys.iter().find(|key| key.verifies(payload, signature));
        if let Some(key) = found {
            return Ok(format!("key {}", key.fingerprint()));
        }
        Err(match keys.len() {
            1 => "signature: not made by the key that is trusted".to_owned(),
            count => format!("signature: not made by any of the {count} keys that are trusted"),
        })
    }
}

fn keys(sources: &[Source], what: &str) -> Result<Vec<PublicKey>, String> {
    let read = |source: &Source| {
        let text = source.text(what)?;
        PublicKey::from_pem(&text).map_err(|reason| format!("{source}: {reason}"))
    };
    sources.iter().map(read).collect()
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // a clock before 1970 makes every certificate one of the future, which is refused
    UnixTime::since_unix_epoch(since.unwrap_or_default())
}

impl Source {
    fn text(&self, what: &str) -> Result<String, String> {
        match self {
            Source::Inline(bytes) => String::from_utf8(bytes.clone())
                .map_err(|_| format!("{what} in the policy: not PEM")),
            Source::File(path) => match read_bounded(path) {
                Ok(Some(text)) => Ok(text),
                Ok(None) => Err(format!("{what} {} does not exist", path.display())),
                Err(error) => Err(format!("{what} {error}")),
            },
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Inline(_) => f.write_str("data in the policy"),
        }
    }
}
