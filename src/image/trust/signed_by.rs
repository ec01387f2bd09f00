//! `signedBy`: a simple signature, made by one of the keys that the policy trusts
//! (containers-policy.json(5), containers-signature(5)).

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use base64::Engine;

use super::identity::SignedIdentity;
use super::openpgp::{self, Keys};
use super::payload::{Kind, Payload};
use super::strict::Fields;
use super::verdict::{Accepted, Evidence, Found, Refusal, Signature, SignatureVerdict};

/// Bytes of one key file. A keyring of a distribution's developers has a few hundred KiB.
const MAX_KEY_BYTES: u64 = 4 << 20;

/// A requirement of type `signedBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    keys: KeySource,
    /// Only `GPGKeys` is implemented, here as in containers/image; the others refuse.
    key_type: KeyType,
    identity: SignedIdentity,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeySource {
    Path(PathBuf),
    Paths(Vec<PathBuf>),
    Data(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    GpgKeys,
    /// A type that the manual page reserves.
    Reserved(&'static str),
}

impl SignedBy {
    /// Reads the fields of a requirement; `type` is taken already.
    ///
    /// # Errors
    /// Says what is wrong, in words.
    pub fn parse(mut fields: Fields) -> Result<SignedBy, String> {
        let key_type = match fields.text("keyType")?.as_str() {
            "GPGKeys" => KeyType::GpgKeys,
            "signedByGPGKeys" => KeyType::Reserved("signedByGPGKeys"),
            "X509Certificates" => KeyType::Reserved("X509Certificates"),
            "signedByX509CAs" => KeyType::Reserved("signedByX509CAs"),
            unknown => return Err(format!("signedBy: keyType {unknown:?} is unknown")),
        };
        let path = fields.text_if_given("keyPath")?;
        let paths = fields.texts_if_given("keyPaths")?;
        let data = fields.text_if_given("keyData")?;
        let keys = match (path, paths, data) {
            (Some(path), None, None) if !path.is_empty() => KeySource::Path(path.into()),
            (None, Some(paths), None) => {
                KeySource::Paths(paths.into_iter().map(PathBuf::from).collect())
            }
            (None, None, Some(data)) => KeySource::Data(decode(&data)?),
            _ => {
                return Err(
                    "signedBy: exactly one of keyPath, keyPaths and keyData must be \
                            given"
                        .to_owned(),
                );
            }
        };
        let identity = SignedIdentity::parse(fields.take("signedIdentity"))?;
        fields.finish()?;
        Ok(SignedBy {
            keys,
            key_type,
            identity,
        })
    }

    /// Why no image can meet it, whatever its signatures.
    pub fn never(&self) -> Option<Refusal> {
        if let KeyType::Reserved(name) = self.key_type {
            let reason = format!("keyType {name} is not implemented; use GPGKeys");
            return Some(Refusal::because(reason));
        }
        openpgp::MISSING.map(Refusal::because)
    }

    /// The same with its keys read: why they cannot be used. Blocking.
    pub fn trouble(&self) -> Option<String> {
        match self.never() {
            Some(refusal) => Some(refusal.to_string()),
            None => self.load_keys().err(),
        }
    }

    /// Whether one of the image's simple signatures is by a trusted key, over this manifest and for
    /// this name. Reads the key files: blocking.
    ///
    /// # Errors
    /// Says of every signature why it does not count.
    pub fn check(&self, evidence: &Evidence) -> Result<Accepted, Refusal> {
        if let Some(refusal) = self.never() {
            return Err(refusal);
        }
        let mut signatures: Vec<SignatureVerdict> = Vec::new();
        let simple = evidence.signatures.iter().filter_map(simple);
        // without a signature the keys need not be there, as in containers/image
        let mut keys = None;
        for (place, message) in simple {
            let keys = match &keys {
                Some(keys) => keys,
                None => keys.insert(self.load_keys().map_err(Refusal::because)?),
            };
            let outcome = self.check_one(keys, message, evidence);
            signatures.push(SignatureVerdict {
                place: place.clone(),
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
        keys: &Keys,
        message: &[u8],
        evidence: &Evidence,
    ) -> Result<String, String> {
        let signed = openpgp::verify(keys, message)?;
        let by = format!("a good signature by key {}", signed.key);
        let payload = Payload::parse(&signed.content, Kind::Simple)
            .map_err(|reason| format!("{by}, but what it signs is not understood: {reason}"))?;
        if payload.manifest_digest != evidence.manifest_digest {
            return Err(format!(
                "{by}, but over manifest {}, and this image's is {}",
                payload.manifest_digest, evidence.manifest_digest
            ));
        }
        let identity = self
            .identity
            .check(evidence.reference.as_ref(), &payload.reference);
        identity.map_err(|reason| format!("{by}, but {reason}"))?;
        Ok(format!("signature by key {}", signed.key))
    }

    fn load_keys(&self) -> Result<Keys, String> {
        let mut keys = Keys::default();
        match &self.keys {
            KeySource::Data(data) => keys
                .add(data)
                .map_err(|reason| format!("keyData: {reason}"))?,
            KeySource::Path(path) => add_file(&mut keys, path)?,
            KeySource::Paths(paths) => {
                for path in paths {
                    add_file(&mut keys, path)?;
                }
            }
        }
        match keys.is_empty() {
            true => Err(format!("there is no OpenPGP key in {}", self.keys)),
            false => Ok(keys),
        }
    }
}

fn simple(found: &Found) -> Option<(&String, &[u8])> {
    match &found.signature {
        Signature::Simple(message) => Some((&found.place, message)),
        Signature::Sigstore(_) => None,
    }
}

fn add_file(keys: &mut Keys, path: &PathBuf) -> Result<(), String> {
    let fail = |reason: &dyn fmt::Display| format!("key file {}: {reason}", path.display());
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut data = Vec::new();
    file.take(MAX_KEY_BYTES + 1)
        .read_to_end(&mut data)
        .map_err(|error| fail(&error))?;
    if data.len() as u64 > MAX_KEY_BYTES {
        return Err(fail(&format!("larger than {MAX_KEY_BYTES} bytes")));
    }
    keys.add(&data).map_err(|reason| fail(&reason))
}

fn decode(data: &str) -> Result<Vec<u8>, String> {
    // as Go reads it: line breaks are nothing
    let text: String = data.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| format!("signedBy: keyData is not base64: {error}"))
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Path(path) => write!(f, "keyPath {}", path.display()),
            KeySource::Paths(paths) => {
                f.write_str("keyPaths")?;
                for path in paths {
                    write!(f, " {}", path.display())?;
                }
                Ok(())
            }
            KeySource::Data(_) => f.write_str("keyData"),
        }
    }
}

impl fmt::Display for SignedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signedBy ({}, {})", self.keys, self.identity)
    }
}
