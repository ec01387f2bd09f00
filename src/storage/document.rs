//! The documents that an image has as they came: its manifest and its config.

use super::StorageError;

/// Bytes of a config or manifest. Registries bound manifests at 4 MiB; configs grow with history.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

pub(super) const MANIFEST: &str = "manifest";
pub(super) const CONFIG: &str = "config";

/// A document of the image `id` is wrong.
pub(super) fn document(id: &str, document: &'static str, reason: String) -> StorageError {
    StorageError::Document {
        id: id.to_owned(),
        document,
        reason,
    }
}
