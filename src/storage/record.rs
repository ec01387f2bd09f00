//! The records on disk: JSON of types of their own, versioned, with unknown fields kept.
//!
//! A record of a version that this build does not know is an error, for the caller to quarantine what
//! it describes: a newer cricket wrote it, and may be back.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StorageError;
use super::blob_file::BlobFile;
use super::dir::Dir;
use super::unpack::RootAttributes;
use super::usage::Tally;

/// The version that is written, of all three kinds.
pub(super) const VERSION: u32 = 1;

/// Bytes of a record that are read. A record with 1,000 references has 100 KB.
const MAX_RECORD_BYTES: u64 = 4 << 20;

pub(super) const LAYER_FILE: &str = "layer.json";
pub(super) const IMAGE_FILE: &str = "image.json";
pub(super) const ROOT_FILE: &str = "root.json";

/// The record in this directory is of another object than the directory is named after.
pub(super) fn mismatch(dir: &Path, file: &str) -> StorageError {
    let reason = "it belongs to another directory than this".to_owned();
    StorageError::Record {
        path: dir.join(file),
        reason,
    }
}

/// `layers/<hex>/layer.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    pub(super) diff_id: String,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Length of the tar, where the split beside it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tar_bytes: Option<u64>,
    /// Whether no entry of the tar replaced another: then its headers say what is on the disk.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_plain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<RootAttributes>,
    /// Of a layer that is a file of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<BlobFile>,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

impl LayerRecord {
    /// Of a layer that occupies so much, with nothing to verify it by.
    pub(super) fn new(diff_id: String, tally: Tally) -> LayerRecord {
        LayerRecord {
            version: VERSION,
            diff_id,
            bytes: tally.bytes,
            inodes: tally.inodes,
            tar_bytes: None,
            is_plain: false,
            root: None,
            file: None,
            unknown: Map::new(),
        }
    }
}

/// `images/<id>/image.json`. What the config says (layers, times of building) is not repeated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageFile {
    pub(super) version: u32,
    pub(super) id: String,
    pub(super) manifest_digest: String,
    pub(super) names: Vec<String>,
    pub(super) digests: Vec<String>,
    pub(super) size_bytes: u64,
    /// Nanoseconds since 1970.
    pub(super) loaded_ns: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact: Option<ArtifactFile>,
    /// Whether a `syncfs` has finished since the image was put.
    pub(super) durable: bool,
    /// The boot in which it was put.
    pub(super) boot_id: String,
    /// Counts puts: of two records that have one name, the larger counts.
    #[serde(default)]
    pub(super) put: u64,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

/// What the record of an artifact has besides: no config says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ArtifactFile {
    #[serde(rename = "type")]
    pub(super) media_type: String,
    /// Its files' layers, in hex.
    pub(super) layers: Vec<String>,
}

/// `containers/<id>/root.json`, whole before anything is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RootRecord {
    pub(super) version: u32,
    /// Diff ids in hex, lowest first.
    pub(super) layers: Vec<String>,
    pub(super) boot_id: String,
    #[serde(flatten)]
    pub(super) unknown: Map<String, Value>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

pub(super) fn read<T: DeserializeOwned>(dir: &Dir, name: &str) -> Result<T, StorageError> {
    let bytes = dir.read(name, MAX_RECORD_BYTES)?;
    parse(&bytes, &dir.path().join(name))
}

/// Whether the file is there but holds nothing: no bytes, or only NULs.
pub(super) fn is_blank(dir: &Dir, name: &str) -> bool {
    dir.read(name, MAX_RECORD_BYTES)
        .is_ok_and(|bytes| bytes.iter().all(|b| *b == 0))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, StorageError> {
    let bad = |reason: String| StorageError::Record {
        path: path.to_path_buf(),
        reason,
    };
    let Versioned { version } =
        serde_json::from_slice(bytes).map_err(|e| bad(format!("not a record: {e}")))?;
    if version != VERSION {
        return Err(bad(format!(
            "record of version {version}, this build knows {VERSION}: a newer cricket wrote it"
        )));
    }
    serde_json::from_slice(bytes).map_err(|e| bad(format!("not a record: {e}")))
}

pub(super) fn encode<T: Serialize>(record: &T, path: &Path) -> Result<Vec<u8>, StorageError> {
    serde_json::to_vec(record).map_err(|e| StorageError::Record {
        path: path.to_path_buf(),
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive_and_unknown_versions_do_not_pass() {
        let path = Path::new("image.json");
        let golden = r#"{"version":1,"id":"i","manifest_digest":"sha256:m","names":["n:1"],"digests":[],"size_bytes":5,"loaded_ns":7,"durable":true,"boot_id":"b","put":3,"later":{"x":1}}"#;
        let file: ImageFile = parse(golden.as_bytes(), path).unwrap();
        assert_eq!(encode(&file, path).unwrap(), golden.as_bytes());
        let newer = golden.replace("\"version\":1", "\"version\":2");
        let error = parse::<ImageFile>(newer.as_bytes(), path)
            .unwrap_err()
            .to_string();
        assert!(error.contains("version 2"), "{error}");
        for bad in [
            "",
            "{",
            "[]",
            "{\"version\":1}",
            "{\"version\":\"1\"}",
            "\0\0\0",
        ] {
            assert!(parse::<ImageFile>(bad.as_bytes(), path).is_err(), "{bad:?}");
        }
    }
}
