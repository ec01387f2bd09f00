//! OCI image layouts (image-spec image-layout.md), also those inside newer `docker save` archives.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, Digest};

use super::archive::Archive;
use super::{Plan, PlannedLayer, Source, sha256};
use crate::image::error::ImageError;
use crate::image::manifest::{self, Document, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::{Name, Reference, parse_sha256};
use crate::storage::NewImage;

/// The whole name, as containerd and docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A name or only a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes inside indexes that are followed.
const MAX_INDEX_DEPTH: usize = 2;

/// The images of the layout that fit `platform`.
pub(super) fn plan(
    archive: &Archive,
    source: Source<'_>,
    platform: &Platform,
) -> Result<Vec<Plan>, ImageError> {
    check_version(archive, source)?;
    let index = archive.document("index.json")?;
    let what = source.part("index.json");
    let Document::Index(entries) = manifest::parse(&index, Some(manifest::OCI_INDEX), &what)?
    else {
        return Err(ImageError::malformed(what, "it is no index"));
    };
    let reader = Reader {
        archive,
        source,
        platform,
    };
    let mut plans: Vec<Plan> = Vec::new();
    for entry in &entries {
        let Some(resolved) = reader.resolve(entry)? else {
            continue;
        };
        let plan = reader.image(entry, resolved)?;
        match plans.iter_mut().find(|known| known.id == plan.id) {
            // one image under several names
            Some(known) => merge(&mut known.new, plan.new),
            None => plans.push(plan),
        }
    }
    Ok(plans)
}

fn check_version(archive: &Archive, source: Source<'_>) -> Result<(), ImageError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let what = source.part("oci-layout");
    let layout: Layout = serde_json::from_slice(&archive.document("oci-layout")?)
        .map_err(|error| ImageError::malformed(what.as_str(), error))?;
    if layout.image_layout_version != "1.0.0" {
        let version = layout.image_layout_version;
        return Err(ImageError::malformed(
            what,
            format!("version {version:?} is not supported"),
        ));
    }
    Ok(())
}

fn merge(known: &mut NewImage, new: NewImage) {
    let fresh = new
        .names
        .into_iter()
        .filter(|name| !known.names.contains(name));
    let fresh: Vec<String> = fresh.collect();
    known.names.extend(fresh);
    let fresh = new
        .digests
        .into_iter()
        .filter(|digest| !known.digests.contains(digest));
    let fresh: Vec<String> = fresh.collect();
    known.digests.extend(fresh);
}

/// A manifest of the layout.
struct Resolved {
    digest: Digest,
    bytes: Vec<u8>,
    manifest: Box<Manifest>,
}

struct Reader<'a> {
    archive: &'a Archive,
    source: Source<'a>,
    platform: &'a Platform,
}

impl Reader<'_> {
    /// The manifest that an entry of index.json leads to; `None` where it is for other machines or
    /// no image at all (attestations, artifacts).
    fn resolve(&self, entry: &Descriptor) -> Result<Option<Resolved>, ImageError> {
        let one = std::slice::from_ref(entry);
        if entry.platform().is_some() && self.platform.pick(one).is_none() {
            return Ok(None);
        }
        let mut entry = entry.clone();
        for _ in 0..=MAX_INDEX_DEPTH {
            let (digest, bytes) = self.blob(&entry)?;
            let what = self.source.part(&blob_name(&digest));
            let media_type = entry.media_type().to_string();
            match manifest::parse(&bytes, Some(&media_type), &what) {
                Ok(Document::Manifest(manifest)) if manifest.artifact_type.is_some() => {
                    tracing::warn!(what, "skipped: an artifact, not an image");
                    return Ok(None);
                }
                Ok(Document::Manifest(manifest)) => {
                    return Ok(Some(Resolved {
                        digest,
                        bytes,
                        manifest,
                    }));
                }
                Ok(Document::Index(entries)) => match self.platform.pick(&entries) {
                    Some(picked) => entry = picked.clone(),
                    None => return Ok(None),
                },
                Err(error) => return Err(error),
            }
        }
        Err(self
            .source
            .error("an index in an index in an index is not followed"))
    }

    fn image(&self, entry: &Descriptor, resolved: Resolved) -> Result<Plan, ImageError> {
        let (config_digest, config) = self.blob(&resolved.manifest.config)?;
        let what = self.source.part(&blob_name(&config_digest));
        let layers = &resolved.manifest.layers;
        let (_, diff_ids) = manifest::parse_config(&config, layers.len(), &what)?;
        let mut planned = Vec::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let digest = self.digest(layer)?;
            planned.push(PlannedLayer {
                entry: blob_name(&digest),
                diff_id,
                blob: Some(layer.clone()),
            });
        }
        let name = entry.annotations().as_ref().and_then(name_of);
        let new = NewImage {
            manifest_digest: resolved.digest,
            manifest: resolved.bytes,
            config,
            names: name
                .as_ref()
                .and_then(Reference::tagged_name)
                .into_iter()
                .collect(),
            digests: name
                .iter()
                .map(|name| name.repo_digest(entry.digest().as_ref()))
                .collect(),
            size_bytes: resolved.manifest.size_bytes(),
            annotations: resolved.manifest.annotations.into_iter().collect(),
            signatures: Vec::new(),
        };
        Ok(Plan {
            new,
            id: config_digest.digest().to_owned(),
            layers: planned,
        })
    }

    /// A JSON blob, verified.
    fn blob(&self, descriptor: &Descriptor) -> Result<(Digest, Vec<u8>), ImageError> {
        let digest = self.digest(descriptor)?;
        let name = blob_name(&digest);
        let bytes = self.archive.document(&name)?;
        let actual = format!("sha256:{}", sha256(&bytes));
        if actual != digest.as_ref() {
            let (what, expected) = (self.source.part(&name), digest.to_string());
            return Err(ImageError::DigestMismatch {
                what,
                expected,
                actual,
            });
        }
        if bytes.len() as u64 != descriptor.size() {
            return Err(ImageError::SizeMismatch {
                what: self.source.part(&name),
                expected: descriptor.size(),
                actual: bytes.len() as u64,
            });
        }
        Ok((digest, bytes))
    }

    /// Descriptors of any algorithm parse; ours name sha256.
    fn digest(&self, descriptor: &Descriptor) -> Result<Digest, ImageError> {
        parse_sha256(descriptor.digest().as_ref()).map_err(|reason| self.source.error(reason))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.digest())
}

/// The name that an entry has; a bare word in `ref.name` is a tag (skopeo) and no name.
fn name_of(annotations: &HashMap<String, String>) -> Option<Reference> {
    let whole = annotations.get(CONTAINERD_NAME);
    let text = whole.or_else(|| {
        annotations
            .get(REF_NAME)
            .filter(|text| text.contains([':', '/']))
    })?;
    match Name::parse(text).ok()? {
        Name::Full(reference) => Some(reference.or_latest()),
        Name::Short(short) => short.at("docker.io").ok().map(Reference::or_latest),
    }
}
