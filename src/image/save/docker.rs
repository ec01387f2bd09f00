//! The archive of `docker save` before docker 25 (image specification v1.2), as skopeo and podman
//! write it under `docker-archive`.

use std::collections::BTreeSet;

use oci_spec::image::Digest;
use serde_json::{Value, json};

use super::super::error::ImageError;
use super::blob::open;
use super::plan::{Plan, Planned};
use super::stream::{Output, Tar};
use crate::storage::Store;

/// Writes the archive.
pub(super) fn write(store: &Store, plan: &Plan, output: &mut Output) -> Result<(), ImageError> {
    let mut tar = Tar { output };
    let mut written: BTreeSet<&str> = BTreeSet::new();
    let mut entries = Vec::new();
    for image in &plan.images {
        let record = &image.target.record;
        for diff_id in &record.layers {
            if written.insert(diff_id.digest()) {
                let (name, size) = (layer_name(diff_id), plan.layer_bytes(diff_id));
                tar.file(&name, size, &mut open(store, diff_id)?, true)?;
            }
        }
        let config = format!("{}.json", record.id);
        tar.document(&config, &image.config)?;
        let layers = record.layers.iter().map(layer_name).collect();
        entries.push(entry(image, config, layers));
    }
    tar.document("manifest.json", Value::from(entries).to_string().as_bytes())?;
    tar.end()
}

/// An entry of `manifest.json`.
pub(super) fn entry(image: &Planned, config: String, layers: Vec<String>) -> Value {
    let names = &image.target.names;
    let tags = if names.is_empty() {
        Value::Null
    } else {
        json!(names)
    };
    json!({"Config": config, "RepoTags": tags, "Layers": layers})
}

fn layer_name(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.digest())
}
