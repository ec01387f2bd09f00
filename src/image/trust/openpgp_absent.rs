//! Stands in for `openpgp` in a build without it: every requirement `signedBy` is refused.

/// Why `signedBy` cannot be met here.
pub const MISSING: Option<&str> = Some(
    "this build of cricket cannot verify OpenPGP signatures; build it with the feature openpgp, or \
     write another requirement",
);

/// The keys that a requirement trusts: none can be read.
#[derive(Debug, Default, Clone)]
pub struct Keys;

/// A message with one good signature; there is none here.
#[derive(Debug)]
pub struct Signed {
    /// What is signed.
    pub content: Vec<u8>,
    /// Fingerprint of the signer's primary key.
    pub key: String,
}

impl Keys {
    /// Takes any keyring.
    ///
    /// # Errors
    /// Never.
    pub fn add(&mut self, _keyring: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// Whether there is none; so that it is the signature that is refused, not the keys.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Verifies nothing.
///
/// # Errors
/// Always.
pub fn verify(_keys: &Keys, _message: &[u8]) -> Result<Signed, String> {
    Err(MISSING.unwrap_or_default().to_owned())
}
