//! Certificates that come with a signature: whether an authority of the policy has issued one, for
//! signing code and at that time, and what it says about its owner.
//!
//! `rustls-webpki` builds and checks the chain. Go's verifier, which containers/image uses, checks
//! more of the issuers (their time, their key usage, the anchor's path length): that is done here,
//! on the candidates before the chain is built and on the chain that was.

use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};
use x509_cert::certificate::{Certificate, Version};
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

use super::key::PublicKey;
use super::pem::{self, Block};

/// Certificates in one chain or one file of authorities.
const MAX_CERTIFICATES: usize = 32;

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// Fulcio's OID for the OIDC issuer, its text as it is.
const OIDC_ISSUER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
/// The newer one: a UTF8String.
const OIDC_ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");

/// A certificate, as bytes and as what they say.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    der: CertificateDer<'static>,
    parsed: Certificate,
}

impl Issued {
    /// The one certificate in `text`.
    pub(super) fn from_pem(text: &str) -> Result<Issued, String> {
        let mut all = parse_all(text, "certificate")?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            (Some(_), false) => Err("certificate: there is more than one".to_owned()),
            (None, _) => Err("certificate: there is none".to_owned()),
        }
    }

    fn parse(block: Block, what: &str) -> Result<Issued, String> {
        let parsed =
            Certificate::from_der(&block.der).map_err(|error| format!("{what}: {error}"))?;
        let extensions = parsed.tbs_certificate().extensions();
        let mut known = Vec::new();
        for extension in extensions.into_iter().flatten() {
            if known.contains(&extension.extn_id) {
                return Err(format!("{what}: extension {} twice", extension.extn_id));
            }
            known.push(extension.extn_id);
        }
        let der = CertificateDer::from(block.der);
        Ok(Issued { der, parsed })
    }

    /// Its bytes.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key that it is about.
    pub(super) fn public_key(&self) -> Result<PublicKey, String> {
        let info = self.parsed.tbs_certificate().subject_public_key_info();
        let der = info
            .to_der()
            .map_err(|error| format!("certificate: public key: {error}"))?;
        PublicKey::from_spki(&der).map_err(|reason| format!("certificate: {reason}"))
    }

    /// Whether it is for `email`: one of its alternative names is exactly that.
    pub(super) fn check_email(&self, email: &str) -> Result<(), String> {
        let names = self
            .extension::<SubjectAltName>()?
            .map(|names| names.0)
            .unwrap_or_default();
        let emails: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::Rfc822Name(email) => Some(email.as_str()),
                _ => None,
            })
            .collect();
        if emails.contains(&email) {
            return Ok(());
        }
        Err(format!(
            "certificate: e-mail {email:?} is required, it is for {emails:?}"
        ))
    }

    /// Whether it is for `host`: a DNS name, with its wildcards, or an address.
    pub(super) fn check_hostname(&self, host: &str) -> Result<(), String> {
        let refuse =
            |reason: String| format!("certificate: host name {host:?} is required: {reason}");
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let name = ServerName::try_from(bare).map_err(|error| refuse(error.to_string()))?;
        let certificate =
            EndEntityCert::try_from(&self.der).map_err(|error| refuse(error.to_string()))?;
        certificate
            .verify_is_valid_for_subject_name(&name)
            .map_err(|error| refuse(error.to_string()))
    }

    /// Whether Fulcio has recorded `issuer` as who had authenticated the owner.
    pub(super) fn check_oidc_issuer(&self, issuer: &str) -> Result<(), String> {
        let old = self.raw_extension(OIDC_ISSUER_V1).map(str_of).transpose()?;
        let new = match self.raw_extension(OIDC_ISSUER_V2) {
            Some(value) => Some(
                Utf8StringRef::from_der(value)
                    .map_err(|error| format!("certificate: OIDC issuer: {error}"))?
                    .as_str(),
            ),
            None => None,
        };
        let found = match (old, new) {
            (Some(old), Some(new)) if old != new => {
                return Err(format!(
                    "certificate: two OIDC issuers, {old:?} and {new:?}"
                ));
            }
            (Some(found), _) | (None, Some(found)) => found,
            (None, None) => {
                return Err(
                    "certificate: it names no OIDC issuer; Fulcio's certificates do".to_owned(),
                );
            }
        };
        if found == issuer {
            return Ok(());
        }
        Err(format!(
            "certificate: OIDC issuer {issuer:?} is required, it names {found:?}"
        ))
    }

    fn raw_extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let mut all = self
            .parsed
            .tbs_certificate()
            .extensions()
            .into_iter()
            .flatten();
        all.find(|extension| extension.extn_id == id)
            .map(|extension| extension.extn_value.as_bytes())
    }

    fn extension<T>(&self) -> Result<Option<T>, String>
    where
        T: for<'a> Decode<'a, Error = x509_cert::der::Error> + x509_cert::der::oid::AssociatedOid,
    {
        self.raw_extension(T::OID)
            .map(T::from_der)
            .transpose()
            .map_err(|error| format!("certificate: extension {}: {error}", T::OID))
    }

    fn is_valid_at(&self, time: UnixTime) -> Result<(), String> {
        let validity = self.parsed.tbs_certificate().validity();
        let (from, until) = (
            validity.not_before.to_unix_duration().as_secs(),
            validity.not_after.to_unix_duration().as_secs(),
        );
        if (from..=until).contains(&time.as_secs()) {
            return Ok(());
        }
        Err(format!(
            "certificate: valid from {} to {}, not at {}",
            moment(from),
            moment(until),
            moment(time.as_secs())
        ))
    }

    /// Whether code may be signed with it, or by those it issues: no named usages are all usages.
    fn is_for_code(&self) -> Result<bool, String> {
        let usages = self.extension::<ExtendedKeyUsage>()?;
        Ok(usages.is_none_or(|usages| {
            usages
                .0
                .iter()
                .any(|usage| [CODE_SIGNING, ANY_USAGE].contains(usage))
        }))
    }

    /// Whether it may issue others at `time`. What cannot be read may not.
    fn may_issue(&self, time: UnixTime) -> bool {
        let authority = match self.extension::<BasicConstraints>() {
            Ok(Some(constraints)) => constraints.ca,
            // version 1 knows no extensions
            Ok(None) => self.parsed.tbs_certificate().version() != Version::V3,
            Err(_) => false,
        };
        let signs = match self.extension::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|usage| usage.key_cert_sign()),
            Err(_) => false,
        };
        authority && signs && self.is_for_code().unwrap_or(false) && self.is_valid_at(time).is_ok()
    }

    /// Certificates that may stand between this one, as an anchor, and a leaf.
    fn max_path(&self) -> usize {
        let constraints = self.extension::<BasicConstraints>().ok().flatten();
        constraints
            .and_then(|constraints| constraints.path_len_constraint)
            .map_or(usize::MAX, usize::from)
    }
}

/// The authorities of a policy.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    roots: Vec<Issued>,
    intermediates: Vec<Issued>,
}

impl Authorities {
    /// Reads `roots`, of which at least one must be a certificate (others are skipped, as Go does),
    /// and `intermediates`, which must all be.
    pub(super) fn from_pem(roots: &str, intermediates: Option<&str>) -> Result<Self, String> {
        let mut found = Vec::new();
        let mut rest = roots;
        while let Some((block, after)) = pem::decode(rest) {
            if found.len() == MAX_CERTIFICATES {
                return Err(format!("more than {MAX_CERTIFICATES} certificates"));
            }
            let certificate = block.label == "CERTIFICATE";
            found.extend(
                Issued::parse(block, "authority")
                    .ok()
                    .filter(|_| certificate),
            );
            rest = after;
        }
        if found.is_empty() {
            return Err("no certificate of an authority in PEM".to_owned());
        }
        let intermediates = intermediates.map(|text| parse_all(text, "intermediate authority"));
        Ok(Authorities {
            roots: found,
            intermediates: intermediates.transpose()?.unwrap_or_default(),
        })
    }

    /// Whether one of the authorities has issued `leaf`, directly or through those of `chain`, and
    /// all of them are valid at `time`. The chain's last certificate is its root and not needed, as
    /// containers/image has it.
    pub(super) fn verify(
        &self,
        leaf: &Issued,
        chain: Option<&str>,
        time: UnixTime,
    ) -> Result<(), String> {
        let mut given = match chain {
            Some(text) => parse_all(text, "certificate chain")?,
            None => Vec::new(),
        };
        given.pop();
        leaf.is_valid_at(time)?;
        if !leaf.is_for_code()? {
            return Err("certificate: it is not for signing code".to_owned());
        }
        // an authority of the policy may sign images itself
        if self.roots.iter().any(|root| root.der == leaf.der) {
            return Ok(());
        }
        let roots: Vec<&Issued> = self
            .roots
            .iter()
            .filter(|one| one.may_issue(time))
            .collect();
        let intermediates: Vec<CertificateDer<'_>> = self
            .intermediates
            .iter()
            .chain(&given)
            .filter(|one| one.may_issue(time))
            .map(|one| CertificateDer::from(one.der()))
            .collect();
        build_chain(leaf, &roots, &intermediates, time)
            .map_err(|error| format!("certificate: {}", explain(&error)))
    }
}

fn build_chain(
    leaf: &Issued,
    roots: &[&Issued],
    intermediates: &[CertificateDer<'_>],
    time: UnixTime,
) -> Result<(), webpki::Error> {
    // those that webpki cannot read cannot be an anchor
    let usable: Vec<(&Issued, TrustAnchor<'_>)> = roots
        .iter()
        .filter_map(|root| Some((*root, webpki::anchor_from_trusted_cert(&root.der).ok()?)))
        .collect();
    let anchors: Vec<TrustAnchor<'_>> = usable.iter().map(|(_, anchor)| anchor.clone()).collect();
    let within_path = |path: &VerifiedPath<'_>| {
        let between = path.intermediate_certificates().count();
        let is_long = usable
            .iter()
            .any(|(root, anchor)| anchor == path.anchor() && between > root.max_path());
        if is_long {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        Ok(())
    };
    EndEntityCert::try_from(&leaf.der)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            time,
            CodeSigning,
            None,
            Some(&within_path),
        )
        .map(drop)
}

/// As [`Issued::is_for_code`], for webpki.
struct CodeSigning;

impl ExtendedKeyUsageValidator for CodeSigning {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut named = false;
        for usage in usages {
            named = true;
            let usage: Vec<usize> = usage?.to_decoded_oid();
            let is =
                |id: ObjectIdentifier| id.arcs().map(|arc| arc as usize).eq(usage.iter().copied());
            if is(CODE_SIGNING) || is(ANY_USAGE) {
                return Ok(());
            }
        }
        if named {
            return Err(webpki::Error::RequiredEkuNotFoundContext(
                webpki::RequiredEkuNotFoundContext {
                    required: webpki::KeyUsage::required(CODE_SIGNING_DER),
                    present: Vec::new(),
                },
            ));
        }
        Ok(())
    }
}

/// [`CODE_SIGNING`] as DER has it.
const CODE_SIGNING_DER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

fn explain(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnknownIssuer => {
            "no authority of the policy that is valid at that time has issued it".to_owned()
        }
        webpki::Error::InvalidSignatureForPublicKey => {
            "the authority that it names has not signed it".to_owned()
        }
        other => format!("its chain is not valid: {other}"),
    }
}

fn parse_all(text: &str, what: &str) -> Result<Vec<Issued>, String> {
    let blocks = pem::decode_all(text, what, MAX_CERTIFICATES)?;
    blocks
        .into_iter()
        .map(|block| Issued::parse(block, what))
        .collect()
}

fn str_of(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "certificate: OIDC issuer: not UTF-8".to_owned())
}

fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("second {seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests;
