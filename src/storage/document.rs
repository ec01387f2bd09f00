//! The documents that an image has as they came: its manifest and its config.

use oci_spec::image::Digest;

use super::StorageError;

/// Bytes of a config or manifest. Registries bound manifests at 4 MiB; configs grow with history.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// What messages call the manifest; [`manifest_file`] is its file.
pub(super) const MANIFEST: &str = "manifest";
pub(super) const CONFIG: &str = "config";
/// The one manifest of an image that an earlier version put.
pub(super) const FORMER_MANIFEST: &str = "manifest";
const MANIFEST_FILES: &str = "manifest-";

/// The file of an image's manifest with this digest. Two manifests may have one config and so be one
/// image: the record says which counts, and is alone what a pull under another manifest replaces.
pub(super) fn manifest_file(digest: &Digest) -> String {
    format!("{MANIFEST_FILES}{}", digest.digest())
}

/// Whether a file of this name is a manifest.
pub(super) fn is_manifest_file(name: &str) -> bool {
    name.starts_with(MANIFEST_FILES) || name == FORMER_MANIFEST
}

/// A document of the image `id` is wrong.
pub(super) fn document(id: &str, document: &'static str, reason: String) -> StorageError {
    StorageError::Document {
        id: id.to_owned(),
        document,
        reason,
    }
}
