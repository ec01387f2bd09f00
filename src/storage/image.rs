//! Images in memory and what a pull hands over to make one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::{Digest, ImageConfiguration};

/// An image of the store, immutable: a change of names makes a new record.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// sha256 of the config blob, bare hex.
    pub id: String,
    /// Digest of the manifest (not of the index that may have led to it).
    pub manifest_digest: Digest,
    /// Normalised `name:tag` references, sorted. An image whose names have all moved has none.
    pub names: Vec<String>,
    /// Normalised `name@digest` references, sorted.
    pub digests: Vec<String>,
    /// The layers' diff ids, lowest first.
    pub layers: Vec<Digest>,
    /// Compressed size of config and layers as the manifest gives it, in bytes; at least 1.
    pub size_bytes: u64,
    /// The config, parsed once. Its `history` is dropped: nothing reads it, and it is most of the bytes.
    pub config: Arc<ImageConfiguration>,
    /// When this store got the image.
    pub loaded: SystemTime,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a pull or an import hands over. The id and the layers are derived from `config`.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Digest of `manifest`.
    pub manifest_digest: Digest,
    /// The manifest's bytes, verified by the caller.
    pub manifest: Vec<u8>,
    /// The config blob's bytes, verified by the caller.
    pub config: Vec<u8>,
    /// Normalised names to add; each leaves the image that had it.
    pub names: Vec<String>,
    /// Normalised digest references to add.
    pub digests: Vec<String>,
    /// See [`ImageRecord::size_bytes`].
    pub size_bytes: u64,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}
