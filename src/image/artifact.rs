//! OCI artifacts: what of one becomes files, and under which names.
//!
//! A blob is a file named by its title, as CRI-O mounts it. One without a title can be seen by nobody
//! and is not fetched. How files are kept is storage's (`storage::ArtifactFile`).

use oci_spec::image::Descriptor;

use super::error::ImageError;
use super::manifest::Manifest;
use super::unpack::Into;
use crate::storage::{ArtifactFile, NewArtifact};

/// The blob's file name (image-spec annotations.md); what `oras push` writes.
const TITLE: &str = "org.opencontainers.image.title";
/// The same by the ModelPack specification, old and new, which CRI-O reads where there is no title.
const MODEL_PATHS: [&str; 2] = ["org.cnai.model.filepath", "org.cncf.model.filepath"];

/// An artifact that is to be fetched.
#[derive(Debug)]
pub(super) struct Artifact {
    /// What is downloaded, and what becomes of it.
    pub blobs: Vec<(Descriptor, Into)>,
    /// What storage is to record.
    pub new: NewArtifact,
}

/// The artifact that a manifest describes; `None`: it describes an image. `what` names the manifest
/// in errors.
///
/// # Errors
/// [`ImageError::Malformed`] for a title that is no path below a directory.
pub(super) fn of(manifest: &Manifest, what: &str) -> Result<Option<Artifact>, ImageError> {
    let Some(media_type) = manifest.artifact_type.clone() else {
        return Ok(None);
    };
    let mut files = Vec::new();
    let mut blobs = Vec::new();
    for blob in &manifest.layers {
        let Some(title) = title(blob) else {
            tracing::info!(what, blob = %blob.digest(), "a blob without a title is not fetched");
            continue;
        };
        let file = ArtifactFile::new(blob.digest(), title).map_err(|reason| {
            let title: String = title.escape_debug().take(200).collect();
            let digest = blob.digest();
            ImageError::malformed(what, format!("blob {digest}: title \"{title}\": {reason}"))
        })?;
        blobs.push((blob.clone(), Into::File(file.clone())));
        files.push(file);
    }
    Ok(Some(Artifact {
        blobs,
        new: NewArtifact { media_type, files },
    }))
}

fn title(blob: &Descriptor) -> Option<&str> {
    let annotations = blob.annotations().as_ref()?;
    let model = || MODEL_PATHS.iter().find_map(|key| annotations.get(*key));
    let title = annotations.get(TITLE).or_else(model)?;
    Some(title.as_str()).filter(|title| !title.is_empty())
}
