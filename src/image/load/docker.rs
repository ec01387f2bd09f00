//! Archives of `docker save` (image specification v1.2): manifest.json, configurations, layer tars.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::json;

use super::archive::Archive;
use super::{Plan, PlannedLayer, Source, no_annotations, sha256};
use crate::image::error::ImageError;
use crate::image::manifest::{self, MAX_LAYERS};
use crate::image::reference::{Reference, parse_sha256};
use crate::storage::NewImage;

/// Most images of one archive.
const MAX_IMAGES: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// The images of the archive.
pub(super) fn plan(archive: &Archive, source: Source<'_>) -> Result<Vec<Plan>, ImageError> {
    let what = source.part("manifest.json");
    let entries: Vec<Entry> = serde_json::from_slice(&archive.document("manifest.json")?)
        .map_err(|error| ImageError::malformed(what.as_str(), error))?;
    if entries.len() > MAX_IMAGES {
        return Err(ImageError::TooLarge {
            what,
            limit: MAX_IMAGES as u64,
            unit: "images",
        });
    }
    entries
        .into_iter()
        .map(|entry| image(archive, source, entry))
        .collect()
}

fn image(archive: &Archive, source: Source<'_>, entry: Entry) -> Result<Plan, ImageError> {
    let what = source.part(&entry.config);
    if entry.layers.len() > MAX_LAYERS {
        return Err(ImageError::TooLarge {
            what,
            limit: MAX_LAYERS as u64,
            unit: "layers",
        });
    }
    let (config_name, _) = archive.resolve(&entry.config)?;
    let config = archive.document(&config_name)?;
    let (_, diff_ids) = manifest::parse_config(&config, entry.layers.len(), &what)?;
    let id = sha256(&config);
    let mut layers = Vec::new();
    let mut descriptors = Vec::new();
    let mut size_bytes = config.len() as u64;
    for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
        let (file, size) = archive.resolve(name)?;
        size_bytes = size_bytes.saturating_add(size);
        descriptors.push(json!({
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
            "digest": diff_id.to_string(), "size": size,
        }));
        layers.push(PlannedLayer {
            entry: file,
            diff_id,
            blob: None,
        });
    }
    // the format has no manifest: this one says the same, so that every image here has one
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest::DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": format!("sha256:{id}"), "size": config.len(),
        },
        "layers": descriptors,
    })
    .to_string()
    .into_bytes();
    let manifest_digest = parse_sha256(&format!("sha256:{}", sha256(&manifest)))
        .map_err(|reason| source.error(reason))?;
    let new = NewImage {
        manifest_digest,
        manifest,
        config,
        names: names(&entry.repo_tags.unwrap_or_default(), source)?,
        digests: Vec::new(),
        size_bytes,
        annotations: no_annotations(),
        signatures: Vec::new(),
    };
    Ok(Plan { new, id, layers })
}

fn names(tags: &[String], source: Source<'_>) -> Result<Vec<String>, ImageError> {
    let names = tags.iter().map(|tag| {
        let reference = Reference::from_str(tag)
            .map_err(|error| source.error(format!("manifest.json: RepoTags: {error}")))?;
        Ok(reference.or_latest().tagged_name())
    });
    let names: Result<Vec<Option<String>>, ImageError> = names.collect();
    Ok(names?.into_iter().flatten().collect())
}
