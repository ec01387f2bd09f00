//! Verification of OpenPGP signed messages, by sequoia's standard policy: no image's signature with
//! SHA-1 or MD5, no keys too short for today.
//!
//! Stricter than sequoia alone in one point, as gpg is: a key that has expired or was revoked
//! meanwhile is not believed for what it signed before.

use std::io::Read;

use sequoia_openpgp::cert::amalgamation::ValidAmalgamation;
use sequoia_openpgp::cert::{Cert, CertParser};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    GoodChecksum, MessageLayer, MessageStructure, VerificationError, VerificationHelper,
    VerifierBuilder,
};
use sequoia_openpgp::policy::{HashAlgoSecurity, StandardPolicy};
use sequoia_openpgp::types::{HashAlgorithm, RevocationStatus};
use sequoia_openpgp::{Fingerprint, KeyHandle};

/// Bytes that a signed message may hold: the payload is less than 1 KiB, and a compressed message
/// must not fill the memory.
const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Keys of one requirement.
const MAX_KEYS: usize = 1000;

/// Why `signedBy` cannot be met here: it can (`openpgp_absent.rs` is the other build).
pub const MISSING: Option<&str> = None;

const ARMOR: &[u8] = b"-----BEGIN PGP";

/// The keys that a requirement trusts.
#[derive(Debug, Default, Clone)]
pub struct Keys(Vec<Cert>);

/// A message with one good signature.
#[derive(Debug)]
pub struct Signed {
    /// What is signed.
    pub content: Vec<u8>,
    /// Fingerprint of the signer's primary key.
    pub key: String,
}

impl Keys {
    /// Adds the keys of a keyring, armored (several blocks too) or not. What is no key in it is
    /// passed over, as gpg does it.
    ///
    /// # Errors
    /// When there is no key at all, or far too many.
    pub fn add(&mut self, keyring: &[u8]) -> Result<(), String> {
        let before = self.0.len();
        let mut first_error = None;
        for block in blocks(keyring) {
            let certs = match CertParser::from_bytes(block) {
                Ok(certs) => certs,
                Err(error) => {
                    first_error.get_or_insert(error.to_string());
                    continue;
                }
            };
            for cert in certs {
                match cert {
                    Ok(_) if self.0.len() == MAX_KEYS => {
                        return Err(format!("more than {MAX_KEYS} keys"));
                    }
                    Ok(cert) => self.0.push(cert),
                    Err(error) => {
                        first_error.get_or_insert(error.to_string());
                    }
                }
            }
        }
        match (self.0.len() > before, first_error) {
            (true, _) => Ok(()),
            (false, Some(error)) => Err(format!("no OpenPGP key in it: {error}")),
            (false, None) => Err("no OpenPGP key in it".to_owned()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An armored file may be several, one after the other.
fn blocks(keyring: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    if keyring.trim_ascii_start().starts_with(b"-----") {
        let found = keyring
            .windows(ARMOR.len())
            .enumerate()
            .filter(|(_, window)| *window == ARMOR);
        starts.extend(found.map(|(at, _)| at));
    }
    if starts.is_empty() {
        return vec![keyring];
    }
    starts.push(keyring.len());
    starts
        .windows(2)
        .map(|pair| &keyring[pair[0]..pair[1]])
        .collect()
}

/// Verifies a message that has exactly one signature.
///
/// # Errors
/// Says which key is missing, or what is wrong with the signature.
pub fn verify(keys: &Keys, message: &[u8]) -> Result<Signed, String> {
    let policy = standard();
    let helper = Helper {
        keys,
        policy: &policy,
        outcome: Err("it is not signed".to_owned()),
    };
    let builder = VerifierBuilder::from_bytes(message)
        .map_err(|error| format!("not an OpenPGP message: {error}"))?;
    let mut verifier = builder
        .buffer_size(MAX_CONTENT_BYTES)
        .with_policy(&policy, None, helper)
        .map_err(|error| format!("not an OpenPGP signed message: {error}"))?;
    let mut content = Vec::new();
    Read::by_ref(&mut verifier)
        .take(MAX_CONTENT_BYTES as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| format!("not an OpenPGP signed message: {error}"))?;
    if content.len() > MAX_CONTENT_BYTES {
        return Err(format!("it signs more than {MAX_CONTENT_BYTES} bytes"));
    }
    let key = verifier.into_helper().outcome?;
    Ok(Signed { content, key })
}

/// sequoia's, but for one thing: what a key says of itself may be signed with SHA-1, as keys that gpg
/// 2.0 has made do (RHEL 7's). Nobody but the key's owner chooses those bytes, so what SHA-1 has lost,
/// resistance to collisions, is not needed there; for an image's signature it is.
fn standard<'a>() -> StandardPolicy<'a> {
    let mut policy = StandardPolicy::new();
    policy.accept_hash_property(
        HashAlgorithm::SHA1,
        HashAlgoSecurity::SecondPreImageResistance,
    );
    policy
}

struct Helper<'a> {
    keys: &'a Keys,
    policy: &'a StandardPolicy<'a>,
    /// The signer's fingerprint, or what is wrong; no error of the library, which has no words for it.
    outcome: Result<String, String>,
}

impl VerificationHelper for Helper<'_> {
    fn get_certs(&mut self, ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        let wanted = |cert: &&Cert| {
            cert.keys()
                .any(|key| ids.iter().any(|id| id.aliases(key.key().key_handle())))
        };
        Ok(self.keys.0.iter().filter(wanted).cloned().collect())
    }

    fn check(&mut self, structure: MessageStructure) -> sequoia_openpgp::Result<()> {
        self.outcome = self.judge(structure);
        Ok(())
    }
}

impl Helper<'_> {
    fn judge(&self, structure: MessageStructure) -> Result<String, String> {
        let mut found = None;
        for layer in structure {
            match layer {
                MessageLayer::Compression { .. } => {}
                MessageLayer::Encryption { .. } => return Err("it is encrypted".to_owned()),
                MessageLayer::SignatureGroup { results } => {
                    for result in results {
                        if found.is_some() {
                            return Err("the message is signed more than once".to_owned());
                        }
                        found = Some(match result {
                            Ok(good) => self.check_signer(&good),
                            Err(error) => Err(words(&error)),
                        });
                    }
                }
            }
        }
        found.unwrap_or_else(|| Err("it is not signed".to_owned()))
    }

    /// The signature is good; its key must be so today.
    fn check_signer(&self, good: &GoodChecksum<'_>) -> Result<String, String> {
        let cert = good.ka.cert();
        let name = cert.fingerprint().to_hex();
        let bad = |reason: &str| Err(format!("key {name} {reason}"));
        let today = match cert.with_policy(self.policy, None) {
            Ok(today) => today,
            Err(error) => return bad(&format!("is not acceptable: {error}")),
        };
        if let Err(error) = today.alive() {
            return bad(&format!("is not valid today: {error}"));
        }
        if let RevocationStatus::Revoked(_) = today.revocation_status() {
            return bad("is revoked");
        }
        let signer: Fingerprint = good.ka.key().fingerprint();
        let subkey = today.keys().find(|key| key.key().fingerprint() == signer);
        let Some(subkey) = subkey else {
            return bad(&format!("has no subkey {signer} any more"));
        };
        if let Err(error) = subkey.alive() {
            return bad(&format!("signed with {signer}, not valid today: {error}"));
        }
        if let RevocationStatus::Revoked(_) = subkey.revocation_status() {
            return bad(&format!("signed with {signer}, which is revoked"));
        }
        Ok(name)
    }
}

fn words(error: &VerificationError<'_>) -> String {
    match error {
        VerificationError::MissingKey { sig } => {
            let issuers = sig.get_issuers();
            match issuers.first() {
                Some(issuer) => format!("it is by key {issuer:X}, which the policy does not trust"),
                None => "it does not say by which key it is".to_owned(),
            }
        }
        VerificationError::UnboundKey { cert, error, .. } => format!(
            "key {} was not valid when it signed: {error:#}",
            cert.fingerprint()
        ),
        VerificationError::BadKey { ka, error, .. } => format!(
            "key {} may not sign, or could not when it did: {error:#}",
            ka.cert().fingerprint()
        ),
        VerificationError::BadSignature { ka, error, .. } => format!(
            "the signature by key {} is bad: {error:#}",
            ka.cert().fingerprint()
        ),
        VerificationError::MalformedSignature { error, .. } => {
            format!("the signature is malformed: {error:#}")
        }
        other => format!("the signature is of an unknown kind: {other}"),
    }
}
