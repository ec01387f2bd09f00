//! The OCI image layout (image-spec image-layout.md) in a tar. It also has the `manifest.json` that
//! docker's and containerd's importers of older versions look for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::super::error::ImageError;
use super::super::manifest::{OCI_INDEX, OCI_MANIFEST};
use super::Packing;
use super::blob::{Blob, blob_name, layer};
use super::docker;
use super::plan::{Plan, Planned};
use super::stream::{Output, Tar};
use crate::storage::Store;

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Writes the archive: the layers first, what names them at the end.
pub(super) fn write(
    store: &Store,
    plan: &Plan,
    packing: Packing,
    output: &mut Output,
) -> Result<(), ImageError> {
    let mut tar = Tar { output };
    tar.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    let mut blobs: BTreeMap<&str, Blob> = BTreeMap::new();
    let mut entries = Vec::new();
    let mut docker = Vec::new();
    for image in &plan.images {
        let record = &image.target.record;
        for diff_id in &record.layers {
            if !blobs.contains_key(diff_id.digest()) {
                blobs.insert(diff_id.digest(), layer(store, diff_id, packing, &mut tar)?);
            }
        }
        let layers = record.layers.iter().filter_map(|id| blobs.get(id.digest()));
        let layers: Vec<&Blob> = layers.collect();
        let manifest = manifest(image, &layers);
        let hex = hex::encode(Sha256::digest(&manifest));
        tar.document(&blob_name(&record.id), &image.config)?;
        tar.document(&blob_name(&hex), &manifest)?;
        entries.extend(descriptors(image, &hex, manifest.len()));
        let paths = layers.iter().map(|blob| blob_name(&blob.hex)).collect();
        docker.push(docker::entry(image, blob_name(&record.id), paths));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    tar.document("index.json", index.to_string().as_bytes())?;
    tar.document("manifest.json", Value::from(docker).to_string().as_bytes())?;
    tar.end()
}

/// The manifest of an image whose layers are these blobs: as it was pulled, where they are the same.
fn manifest(image: &Planned, layers: &[&Blob]) -> Vec<u8> {
    let old: Value = serde_json::from_slice(&image.manifest).unwrap_or_default();
    let config = json!({
        "mediaType": OCI_CONFIG, "digest": format!("sha256:{}", image.target.record.id),
        "size": image.config.len(),
    });
    let layers: Vec<Value> = layers.iter().map(|blob| descriptor(blob)).collect();
    let same = |value: &Value, new: &Value| {
        ["mediaType", "digest", "size"]
            .iter()
            .all(|key| value[key] == new[key])
    };
    let known = old["layers"].as_array();
    let unchanged = same(&old["config"], &config)
        && known.is_some_and(|known| {
            known.len() == layers.len() && known.iter().zip(&layers).all(|(a, b)| same(a, b))
        });
    if unchanged {
        return image.manifest.clone();
    }
    let mut manifest = Map::new();
    manifest.insert("schemaVersion".into(), 2.into());
    manifest.insert("mediaType".into(), OCI_MANIFEST.into());
    manifest.insert("config".into(), config);
    manifest.insert("layers".into(), layers.into());
    if let Some(annotations) = old.get("annotations") {
        manifest.insert("annotations".into(), annotations.clone());
    }
    Value::Object(manifest).to_string().into_bytes()
}

fn descriptor(blob: &Blob) -> Value {
    json!({
        "mediaType": blob.media_type, "digest": format!("sha256:{}", blob.hex), "size": blob.size,
    })
}

/// The index's entries for an image: one a name, or one without.
fn descriptors(image: &Planned, hex: &str, size: usize) -> Vec<Value> {
    let config = &image.target.record.config;
    let mut platform = json!({
        "architecture": config.architecture().to_string(), "os": config.os().to_string(),
    });
    if let Some(variant) = config.variant() {
        platform["variant"] = variant.as_str().into();
    }
    let entry = |name: Option<&String>| {
        let mut entry = json!({
            "mediaType": OCI_MANIFEST, "digest": format!("sha256:{hex}"), "size": size,
        });
        if let Some(name) = name {
            // The first for podman and skopeo, the second for containerd and docker.
            entry["annotations"] = json!({
                "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name,
            });
        }
        entry["platform"] = platform.clone();
        entry
    };
    let names = &image.target.names;
    match names.as_slice() {
        [] => vec![entry(None)],
        names => names.iter().map(|name| entry(Some(name))).collect(),
    }
}
