//! TLS towards registries: whom we trust, and how we show who we are.
//!
//! One rustls configuration a set of certificates. Two things differ from rustls' defaults, both
//! because a node that ran CRI-O must go on: a certificate that an administrator has placed in
//! certs.d is accepted from the server itself (an `openssl req -x509` one says that it is an
//! authority, and Go accepts it as a server's), and of several client certificates the one is sent
//! that the server's list of authorities asks for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::certificates::Certificates;
use crate::image::error::ImageError;

/// The configuration for a host with these certificates; `insecure` takes any from the server.
/// Reads the system's authorities: blocking, some milliseconds.
pub(super) fn config(
    certificates: &Certificates,
    insecure: bool,
) -> Result<ClientConfig, ImageError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| ImageError::Tls {
        reason: error.to_string(),
    };
    let check = if insecure {
        Check::Nothing
    } else {
        let roots = Arc::new(roots(certificates)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| failed(&error))?;
        Check::Chain(verifier)
    };
    let verifier = Verifier {
        check,
        placed: certificates.authorities.clone(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let identities = certificates.identities.clone();
    Ok(if identities.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(Identities(identities)))
    })
}

fn roots(certificates: &Certificates) -> Result<RootCertStore, ImageError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    // some systems carry certificates that are too old to be read
    roots.add_parsable_certificates(system.certs);
    let (added, _) = roots.add_parsable_certificates(certificates.authorities.iter().cloned());
    if roots.is_empty() {
        let errors = system.errors.iter().map(ToString::to_string);
        let errors: Vec<String> = errors.collect();
        return Err(ImageError::Tls {
            reason: format!(
                "no authority to check certificates by: the system has none (install \
                 ca-certificates) and certs.d has none for the host {}",
                errors.join("; ")
            )
            .trim_end()
            .to_owned(),
        });
    }
    if added < certificates.authorities.len()
        && let Some(directory) = &certificates.directory
    {
        tracing::warn!(directory = %directory.display(), "some of its authorities cannot be read");
    }
    Ok(roots)
}

#[derive(Debug)]
enum Check {
    /// `insecure`: whatever the server shows.
    Nothing,
    /// A chain to a trusted authority, for the server's name.
    Chain(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    /// What the administrator has placed for this host.
    placed: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Check::Chain(chain) = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = chain.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match verified {
            Err(error) if is_authority(&error) && self.placed.iter().any(|it| it == end_entity) => {
                // webpki has checked the dates before it says this; the name is left
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether the only complaint is that an authority's certificate stands for a server. rustls has no
/// name of its own for webpki's error.
fn is_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other))
        if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// The client certificates of a host.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let can_sign = |it: &&Arc<CertifiedKey>| it.key.choose_scheme(schemes).is_some();
        let mut usable = self.0.iter().filter(can_sign);
        // an issuer stands in a certificate in the very bytes of the server's list
        let issued = |it: &&Arc<CertifiedKey>| {
            let mut names = authorities.iter();
            names.any(|name| {
                it.cert
                    .iter()
                    .any(|certificate| contains(certificate, name))
            })
        };
        let asked_for = usable.clone().find(issued);
        asked_for.or_else(|| usable.next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
