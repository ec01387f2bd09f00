//! What is known of an image, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::{Digest, ImageConfiguration};

/// An image of the store, immutable: a change of names makes a new record.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// sha256 of the config blob, bare hex; of an artifact, whose config is nothing of its own, of the
    /// manifest.
    pub id: String,
    /// Digest of the manifest (not of the index that may have led to it).
    pub manifest_digest: Digest,
    /// Normalised `name:tag` references, sorted. An image whose names have all moved has none.
    pub names: Vec<String>,
    /// Normalised `name@digest` references, sorted.
    pub digests: Vec<String>,
    /// The layers' diff ids, lowest first; of an artifact those of its files.
    pub layers: Vec<Digest>,
    /// Compressed size of config and layers as the manifest gives it, in bytes; at least 1.
    pub size_bytes: u64,
    /// The config, parsed once. Its `history` is dropped: nothing reads it, and it is most of the bytes.
    pub config: Arc<ImageConfiguration>,
    /// When this store got the image.
    pub loaded: SystemTime,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// What kind of artifact it is (a media type); `None`: an image, which can be run.
    pub artifact_type: Option<String>,
}
