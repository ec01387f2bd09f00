//! The images of the node: what they occupy, what they share and who uses them.

use std::sync::Arc;

use cricket_proto::admin as wire;

use super::AdminApi;
use crate::image::{Image, ImageError};
use crate::storage::Census;

/// All images, and which of them `request` names; from memory.
pub(super) fn list(
    api: &AdminApi,
    request: &wire::ListImagesRequest,
) -> Result<wire::ListImagesResponse, ImageError> {
    let (mut selected, mut missing) = (Vec::new(), Vec::new());
    for text in &request.images {
        match api.images.get(text)? {
            Some(image) => selected.push(image.record.id.clone()),
            None => missing.push(text.clone()),
        }
    }
    let census = api.images.census();
    let mut users = api.containers.users_of_images();
    let images = census.images.iter().map(|record| {
        let used_by = users.remove(&record.id).unwrap_or_default();
        one(&census, &api.images.image(Arc::clone(record)), used_by)
    });
    Ok(wire::ListImagesResponse {
        images: images.collect(),
        layers: census
            .layers
            .iter()
            .map(|(id, layer)| wire::Layer {
                id: id.clone(),
                bytes: layer.info.bytes,
                inodes: layer.info.inodes,
                held: layer.held,
            })
            .collect(),
        selected,
        missing,
    })
}

fn one(census: &Census, image: &Image, used_by: Vec<String>) -> wire::Image {
    let record = &image.record;
    wire::Image {
        id: record.id.clone(),
        names: record.names.clone(),
        digests: record.digests.clone(),
        size_bytes: record.size_bytes,
        created: record.config.created().clone().unwrap_or_default(),
        artifact_type: record.artifact_type.clone().unwrap_or_default(),
        pinned: image.pinned,
        used_by,
        layers: record
            .layers
            .iter()
            .map(|layer| layer.digest().to_owned())
            .collect(),
        bytes_on_disk: census.occupied_by(record),
        freed_bytes: census.freed_by(record),
    }
}
