//! Public keys as cosign writes them, and what a signature by one is worth. Which key is to be
//! believed is decided elsewhere.
//!
//! The hash is SHA-256 whatever the key, as containers/image has it; Ed25519 hashes by itself.
//! Curves other than P-256 and P-384 and RSA keys below 2048 bits are refused by name, where
//! containers/image takes P-521 and RSA from 1024 bits too.

use ring::digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::{
    AlgorithmIdentifierRef, SubjectPublicKeyInfoRef, der::asn1::BitStringRef, der::asn1::Null,
};

use super::pem;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Bounds of `ring`'s RSA; fewer bits are not safe, more only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// A signature as two numbers is at most this long: P-521's.
const MAX_FIXED: usize = 132;

/// A key that signatures can be checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    kind: Kind,
    /// The key as `ring` wants it.
    key: Vec<u8>,
    /// `SubjectPublicKeyInfo`, DER.
    spki: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// Reads `PUBLIC KEY` (PKIX) or `RSA PUBLIC KEY` (PKCS #1); what follows the block is ignored.
    pub(super) fn from_pem(text: &str) -> Result<PublicKey, String> {
        let (block, _) = pem::decode(text).ok_or("not a public key in PEM")?;
        match block.label.as_str() {
            "PUBLIC KEY" => PublicKey::from_spki(&block.der),
            "RSA PUBLIC KEY" => {
                let wrapped = wrap_rsa(&block.der).map_err(|error| format!("RSA key: {error}"))?;
                PublicKey::from_spki(&wrapped)
            }
            other => Err(format!(
                "PEM block {other:?} where PUBLIC KEY is needed; the private key does not belong \
                 into a policy"
            )),
        }
    }

    /// Reads a `SubjectPublicKeyInfo`.
    pub(super) fn from_spki(der: &[u8]) -> Result<PublicKey, String> {
        let malformed = |error| format!("public key: {error}");
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(malformed)?;
        let key = info.subject_public_key.as_bytes();
        let key = key.ok_or("public key: not whole bytes")?.to_owned();
        let kind = match info.algorithm.oid {
            EC_PUBLIC_KEY => match info.algorithm.parameters_oid().map_err(|error| {
                format!("public key: its curve is not named by an identifier: {error}")
            })? {
                P256 => Kind::P256,
                P384 => Kind::P384,
                curve => {
                    return Err(format!(
                        "ECDSA curve {curve} is not supported; P-256 and P-384 are"
                    ));
                }
            },
            RSA => {
                let bits = rsa_bits(&key).map_err(malformed)?;
                if !RSA_BITS.contains(&bits) {
                    let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
                    return Err(format!(
                        "RSA key of {bits} bits; it must have {least} to {most}"
                    ));
                }
                Kind::Rsa
            }
            ED25519 => Kind::Ed25519,
            other => {
                return Err(format!(
                    "public key algorithm {other} is not supported; ECDSA, RSA and Ed25519 are"
                ));
            }
        };
        let spki = der.to_owned();
        Ok(PublicKey { kind, key, spki })
    }

    /// `SubjectPublicKeyInfo`, DER.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// A name for people: the SHA-256 of [`PublicKey::spki`], as `openssl` and Rekor show it.
    pub(super) fn fingerprint(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.spki))
    }

    /// Whether it is an ECDSA key.
    pub(super) fn is_ecdsa(&self) -> bool {
        matches!(self.kind, Kind::P256 | Kind::P384)
    }

    /// Whether this key's owner has made `signature` over `message`. An ECDSA signature is ASN.1,
    /// or the two numbers in a row (IEEE P1363), which containers/image takes too.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            Kind::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
            Kind::Ed25519 => &signature::ED25519,
        };
        let key = UnparsedPublicKey::new(algorithm, &self.key);
        if key.verify(message, signature).is_ok() {
            return true;
        }
        self.is_ecdsa()
            && asn1_of_fixed(signature).is_some_and(|asn1| key.verify(message, &asn1).is_ok())
    }
}

/// PKCS #1 inside PKIX, so that there is one form to compare and to check.
fn wrap_rsa(pkcs1: &[u8]) -> x509_cert::der::Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef {
        oid: RSA,
        parameters: Some(Null.into()),
    };
    let subject_public_key = BitStringRef::from_bytes(pkcs1)?;
    SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key,
    }
    .to_der()
}

/// Bits of the modulus in an `RSAPublicKey`.
fn rsa_bits(pkcs1: &[u8]) -> x509_cert::der::Result<usize> {
    let mut reader = SliceReader::new(pkcs1)?;
    let bits = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        let first = modulus.as_bytes().first().copied().unwrap_or(0);
        let whole = modulus.as_bytes().len() * 8;
        Ok::<_, x509_cert::der::Error>(whole - first.leading_zeros() as usize)
    })?;
    reader.finish()?;
    Ok(bits)
}

/// `SEQUENCE { r INTEGER, s INTEGER }` of two numbers in a row.
fn asn1_of_fixed(signature: &[u8]) -> Option<Vec<u8>> {
    if signature.is_empty() || signature.len() > MAX_FIXED || !signature.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = signature.split_at(signature.len() / 2);
    let numbers = [UintRef::new(r).ok()?, UintRef::new(s).ok()?];
    numbers.to_der().ok()
}

#[cfg(test)]
mod tests;
