//! Which images an archive holds, under which names.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::image::Digest;

use super::super::error::ImageError;
use super::super::reference::Name;
use super::super::{Images, Settings};
use crate::storage::{ImageRecord, Lease, StorageError};

/// Images of one archive.
const MAX_IMAGES: usize = 1024;

/// An image and the names that it is saved under.
pub(super) struct Target {
    pub(super) record: Arc<ImageRecord>,
    pub(super) names: Vec<String>,
}

/// An image with its documents.
pub(super) struct Planned {
    pub(super) target: Target,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// What an archive will hold. Keeps the layers.
pub(super) struct Plan {
    pub(super) images: Vec<Planned>,
    /// The length of each layer's tar, by diff id.
    layers: BTreeMap<String, u64>,
    lease: Lease,
}

impl Images {
    /// The images that `texts` name, in that order, each once.
    pub(super) fn targets(&self, texts: &[String]) -> Result<Vec<Target>, ImageError> {
        let mut targets: Vec<Target> = Vec::new();
        if texts.is_empty() || texts.len() > MAX_IMAGES {
            return Err(ImageError::NotSaved {
                image: format!("{} images", texts.len()),
                reason: format!("an archive holds 1 to {MAX_IMAGES}"),
            });
        }
        for text in texts {
            let Some(image) = self.get(text)? else {
                return Err(ImageError::NotSaved {
                    image: text.clone(),
                    reason: "not in the store; pull it first".into(),
                });
            };
            if let Some(kind) = &image.record.artifact_type {
                return Err(ImageError::NotSaved {
                    image: text.clone(),
                    reason: format!("an artifact ({kind}), not an image; only images are saved"),
                });
            }
            let names = self.names_meant(text, &image.record);
            let known = targets
                .iter_mut()
                .find(|known| known.record.id == image.record.id);
            match known {
                Some(known) => {
                    let new = names.into_iter().filter(|name| !known.names.contains(name));
                    let new: Vec<String> = new.collect();
                    known.names.extend(new);
                }
                None => targets.push(Target {
                    record: image.record,
                    names,
                }),
            }
        }
        Ok(targets)
    }

    /// The name that `text` is, or all of the image's where it is an id or a digest.
    fn names_meant(&self, text: &str, record: &ImageRecord) -> Vec<String> {
        let by_id = record
            .id
            .starts_with(text.strip_prefix("sha256:").unwrap_or(text));
        if by_id || Name::parse(text).is_err() {
            return record.names.clone();
        }
        let named = self.stored_names(text).into_iter();
        let named = named.flat_map(|reference| reference.tagged_name());
        match named.into_iter().find(|name| record.names.contains(name)) {
            Some(name) => vec![name],
            None => record.names.clone(),
        }
    }
}

impl Plan {
    /// Reads the images' documents, and looks whether every layer has its tar.
    pub(super) fn new(settings: &Settings, targets: Vec<Target>) -> Result<Plan, ImageError> {
        let store = &settings.store;
        let mut plan = Plan {
            images: Vec::new(),
            layers: BTreeMap::new(),
            lease: store.lease(),
        };
        for target in targets {
            let id = target.record.id.clone();
            let failed = |source: StorageError| ImageError::Storage {
                what: format!("image {id}"),
                source: Arc::new(source),
            };
            for diff_id in &target.record.layers {
                if !plan.lease.has_layer(diff_id) {
                    return Err(failed(StorageError::LayerMissing {
                        diff_id: diff_id.to_string(),
                        wanted_by: format!("image {id}"),
                    }));
                }
                let bytes = store.layer_tar_length(diff_id).map_err(failed)?;
                plan.layers.insert(diff_id.to_string(), bytes);
            }
            plan.images.push(Planned {
                config: store.raw_config(&id).map_err(failed)?,
                manifest: store.raw_manifest(&id).map_err(failed)?,
                target,
            });
        }
        Ok(plan)
    }

    /// Bytes of all layers, each counted once.
    pub(super) fn total_bytes(&self) -> u64 {
        self.layers.values().sum()
    }

    /// Length of a layer's tar.
    pub(super) fn layer_bytes(&self, diff_id: &Digest) -> u64 {
        self.layers
            .get(diff_id.as_ref())
            .copied()
            .unwrap_or_default()
    }
}
