//! A sigstore signature as registries keep it: a layer of the image that is tagged
//! `sha256-<hex>.sig`, whose annotations hold the signature over the layer's bytes.

/// The media type of a layer that is a signature's payload.
pub(super) const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Annotation: the signature, base64.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Annotation: Rekor's SET, JSON.
pub(super) const SET: &str = "dev.sigstore.cosign/bundle";
/// Annotation: the signer's certificate, PEM.
pub(super) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Annotation: the certificates of its issuers, PEM, the root last.
pub(super) const CHAIN: &str = "dev.sigstore.cosign/chain";
