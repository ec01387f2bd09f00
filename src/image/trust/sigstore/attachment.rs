//! Sigstore signatures as registries keep them: the image that is tagged `sha256-<hex>.sig`, in the
//! same repository. Each of its layers is a payload; the layer's annotations hold the signature.
//!
//! Whether to look at all is registries.d's word (`use-sigstore-attachments`), and what a signature
//! is worth `roots` says. Nothing that is brought here is believed, only bounded and of its digest.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, Digest};
use ring::digest;
use serde::Deserialize;

use crate::image::error::ImageError;
use crate::image::reference::parse_sha256;
use crate::image::registry::Session;
use crate::image::trust::verdict::{Found, Signature, SigstoreSignature};

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

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Signatures of one image that are looked at; containers/image's bound for lookaside stores. Whoever
/// signs anew every night should replace, not add.
const MAX_SIGNATURES: usize = 128;
/// Bytes of all payloads of an image; one has some 250. containers/image allows each as much.
const MAX_PAYLOAD_BYTES: u64 = 4 << 20;

/// As little of a manifest as is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    media_type: Option<String>,
    layers: Vec<Descriptor>,
}

/// The sigstore signatures that the session's repository has of an image. No such tag is no
/// signature; anything else that goes wrong is an error, because a signature may be missed.
///
/// # Errors
/// The registry's, and bounds.
pub async fn fetch(session: &Session, image: &Digest) -> Result<Vec<Found>, ImageError> {
    let tag = format!("{}-{}.sig", image.algorithm(), image.digest());
    let raw = match session.manifest(&tag).await {
        Ok(raw) => raw,
        Err(ImageError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let what = format!("{}: signatures {tag}", session.repository());
    let layers = payloads(&raw.bytes, raw.content_type.as_deref(), &what)?;
    // who signs an image again signs the same bytes
    let mut known: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, layer) in layers {
        let digest = layer.digest().to_string();
        let payload = match known.get(&digest) {
            Some(payload) => payload.clone(),
            None => {
                let payload = payload(session, &layer, &what).await?;
                known.entry(digest).or_insert(payload).clone()
            }
        };
        let annotations = layer.annotations().clone().unwrap_or_default();
        found.push(Found {
            place: format!("{tag} layer {}", index + 1),
            signature: Signature::Sigstore(SigstoreSignature {
                media_type: layer.media_type().to_string(),
                payload,
                annotations: annotations.into_iter().collect(),
            }),
        });
    }
    Ok(found)
}

/// The layers that are signatures, with their places in the manifest.
fn payloads(
    manifest: &[u8],
    content_type: Option<&str>,
    what: &str,
) -> Result<Vec<(usize, Descriptor)>, ImageError> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|error| ImageError::malformed(what, error))?;
    let media_type = manifest.media_type.as_deref().or(content_type);
    if let Some(other) = media_type.filter(|media_type| *media_type != OCI_MANIFEST) {
        return Err(ImageError::Unsupported {
            what: what.to_owned(),
            media_type: other.to_owned(),
            remedy: "signatures are an OCI image manifest, as cosign writes it",
        });
    }
    let layers: Vec<(usize, Descriptor)> = manifest
        .layers
        .into_iter()
        .enumerate()
        // attestations and the like are nobody's evidence here
        .filter(|(_, layer)| layer.media_type().to_string() == PAYLOAD_TYPE)
        .collect();
    let too_large = |limit: u64, unit| ImageError::TooLarge {
        what: what.to_owned(),
        limit,
        unit,
    };
    if layers.len() > MAX_SIGNATURES {
        return Err(too_large(MAX_SIGNATURES as u64, "signatures"));
    }
    let bytes = layers
        .iter()
        .try_fold(0u64, |sum, (_, layer)| sum.checked_add(layer.size()));
    if bytes.is_none_or(|bytes| bytes > MAX_PAYLOAD_BYTES) {
        return Err(too_large(MAX_PAYLOAD_BYTES, "bytes of payloads"));
    }
    Ok(layers)
}

async fn payload(session: &Session, layer: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
    let expected = layer.digest().to_string();
    parse_sha256(&expected)
        .map_err(|reason| ImageError::malformed(what, format!("layer {expected}: {reason}")))?;
    let bytes = session
        .small_blob("signature", layer, MAX_PAYLOAD_BYTES)
        .await?;
    let actual = digest::digest(&digest::SHA256, &bytes);
    let actual = format!("sha256:{}", hex::encode(actual));
    if actual != expected {
        return Err(ImageError::DigestMismatch {
            what: format!("{what}: layer {expected}"),
            expected,
            actual,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
