//! An image's record on disk: written, read, and made one in memory again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use oci_spec::image::{Digest, ImageConfiguration};
use sha2::Digest as _;

use super::StorageError;
use super::config::parse_config;
use super::dir::Dir;
use super::document::{
    CONFIG, FORMER_MANIFEST, MANIFEST, MAX_DOCUMENT_BYTES, document, manifest_file,
};
use super::image_record::ImageRecord;
use super::index::ImageEntry;
use super::record::{self, ArtifactFile, IMAGE_FILE, ImageFile};
use super::store::check_hex_id;

/// The bytes of the record; `dir` is where it will lie.
pub(super) fn encode(entry: &ImageEntry, dir: &Path) -> Result<Vec<u8>, StorageError> {
    let record = &entry.record;
    let (names, digests) = entry.names_on_disk();
    let loaded = record.loaded.duration_since(UNIX_EPOCH).unwrap_or_default();
    let file = ImageFile {
        version: record::VERSION,
        id: record.id.clone(),
        manifest_digest: record.manifest_digest.to_string(),
        names,
        digests,
        size_bytes: record.size_bytes,
        loaded_ns: u64::try_from(loaded.as_nanos()).unwrap_or(u64::MAX),
        annotations: record.annotations.clone(),
        artifact: artifact(record),
        durable: entry.durable,
        boot_id: entry.boot_id.clone(),
        put: entry.put,
        unknown: entry.unknown.clone(),
    };
    record::encode(&file, &dir.join(IMAGE_FILE))
}

/// Reads an image's record.
pub(super) fn read_record(images: &Dir, name: &OsStr) -> Result<ImageFile, StorageError> {
    let id = name.to_string_lossy().into_owned();
    check_hex_id("image", &id)?;
    let dir = images.sub(&id)?;
    let file: ImageFile = record::read(&dir, IMAGE_FILE)?;
    if file.id != id {
        return Err(record::mismatch(dir.path(), IMAGE_FILE));
    }
    Ok(file)
}

/// Reads the rest of an image. What its id is the digest of is hashed again: it is small, and
/// everything hangs on it.
pub(super) fn load(images: &Dir, file: ImageFile) -> Result<ImageEntry, StorageError> {
    let dir = images.sub(&file.id)?;
    let manifest_digest = Digest::from_str(&file.manifest_digest).map_err(|error| {
        let reason = format!("its digest in the record: {error}");
        document(&file.id, MANIFEST, reason)
    })?;
    let manifest = manifest_in(&dir, &manifest_digest);
    let (named, path) = match file.artifact {
        Some(_) => (MANIFEST, manifest.as_str()),
        None => (CONFIG, CONFIG),
    };
    let bytes = dir.read(path, MAX_DOCUMENT_BYTES)?;
    if hex::encode(sha2::Sha256::digest(&bytes)) != file.id {
        let reason = "its digest is not the image's id".to_owned();
        return Err(document(&file.id, named, reason));
    }
    let (config, layers) = match &file.artifact {
        Some(artifact) => (
            ImageConfiguration::default(),
            artifact_layers(&file.id, artifact)?,
        ),
        None => parse_config(&file.id, &bytes)?,
    };
    let id = file.id;
    let record = ImageRecord {
        id,
        manifest_digest,
        names: file.names,
        digests: file.digests,
        layers,
        size_bytes: file.size_bytes,
        config: Arc::new(config),
        loaded: UNIX_EPOCH + Duration::from_nanos(file.loaded_ns),
        annotations: file.annotations,
        artifact_type: file.artifact.map(|artifact| artifact.media_type),
    };
    let ImageFile {
        durable,
        boot_id,
        put,
        unknown,
        ..
    } = file;
    Ok(ImageEntry {
        record: Arc::new(record),
        durable,
        boot_id,
        put,
        lost: BTreeMap::new(),
        unknown,
    })
}

/// The name of the file with an image's manifest: of the digest, or what an earlier version gave it.
pub(super) fn manifest_in(dir: &Dir, digest: &Digest) -> String {
    let name = manifest_file(digest);
    match !dir.has(&name) && dir.has(FORMER_MANIFEST) {
        true => FORMER_MANIFEST.to_owned(),
        false => name,
    }
}

/// What an artifact's record says besides an image's.
fn artifact(record: &ImageRecord) -> Option<ArtifactFile> {
    let media_type = record.artifact_type.clone()?;
    let layers = record.layers.iter();
    Some(ArtifactFile {
        media_type,
        layers: layers.map(|layer| layer.digest().to_owned()).collect(),
    })
}

/// The layers that the record of the artifact `id` names.
fn artifact_layers(id: &str, file: &ArtifactFile) -> Result<Vec<Digest>, StorageError> {
    let parsed = file.layers.iter().map(|hex| {
        Digest::from_str(&format!("sha256:{hex}"))
            .map_err(|error| document(id, IMAGE_FILE, format!("layer {hex:?}: {error}")))
    });
    parsed.collect()
}
