//! Images: records, documents and what is kept of signatures.

use std::ffi::OsStr;

use sha2::Digest as _;

use super::{Contents, Examination, Places, Subject, names, shown};
use crate::storage::dir::Dir;
use crate::storage::document::{MANIFEST, MAX_DOCUMENT_BYTES, document};
use crate::storage::image_file;
use crate::storage::{StorageError, Store, signatures};

pub(super) fn examine(
    places: &Places,
    open: Option<&Store>,
    found: &mut Examination,
) -> Result<(), StorageError> {
    let Some(images) = &places.images else {
        return Ok(());
    };
    // What an open store has, and nobody has removed meanwhile, must be on the disk.
    for id in open.map(Store::images).unwrap_or_default() {
        let id = &id.id;
        let _still = open.map(|store| store.shared.disk());
        if open.is_some_and(|store| store.image(id).is_some()) && !images.has(id) {
            let problem = "its directory is not there any more; pull it again or remove it";
            found.fault(Subject::Image(id.clone()), problem);
        }
    }
    for name in names(Some(images))? {
        let id = shown(&name);
        // A pull of the same image takes its files away.
        let _still = open.map(|store| store.shared.disk());
        if !images.has(&id) {
            continue;
        }
        match one(images, &name) {
            Ok(contents) => {
                let missing = |layer: &&String| {
                    !places
                        .layers
                        .as_ref()
                        .is_some_and(|layers| layers.has(layer))
                };
                if let Some(layer) = contents.layers.iter().find(missing) {
                    let problem = format!("its layer sha256:{layer} is not there");
                    found.fault(Subject::Image(id.clone()), problem);
                }
                found.images.insert(id, contents);
            }
            Err((contents, error)) => {
                found.fault(Subject::Image(id.clone()), error);
                found.images.insert(id, contents);
            }
        }
    }
    Ok(())
}

/// Reads everything of an image. With an error comes what is known of it all the same.
fn one(images: &Dir, name: &OsStr) -> Result<Contents, (Contents, StorageError)> {
    let mut contents = Contents::default();
    let file = match image_file::read_record(images, name) {
        Ok(file) => file,
        Err(error) => return Err((contents, error)),
    };
    contents.names = match file.names.is_empty() {
        true => file.digests.clone(),
        false => file.names.clone(),
    };
    let read = |contents: &mut Contents| -> Result<(), StorageError> {
        let dir = images.sub(&file.id)?;
        let entry = image_file::load(images, file)?;
        let layers = entry.record.layers.iter();
        contents.layers = layers.map(|layer| layer.digest().to_owned()).collect();
        let wanted = &entry.record.manifest_digest;
        let manifest = dir.read(&image_file::manifest_in(&dir, wanted), MAX_DOCUMENT_BYTES)?;
        let is_other = *wanted.algorithm() == oci_spec::image::DigestAlgorithm::Sha256
            && hex::encode(sha2::Sha256::digest(&manifest)) != wanted.digest();
        if is_other {
            let reason = format!("its digest is not {wanted}, as the record says");
            return Err(document(&entry.record.id, MANIFEST, reason));
        }
        signatures::read(&dir).map(drop)
    };
    match read(&mut contents) {
        Ok(()) => Ok(contents),
        Err(error) => Err((contents, error)),
    }
}
