//! How images come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::time::SystemTime;

use oci_spec::image::{Digest, ImageConfiguration};
use serde_json::Map;
use sha2::Digest as _;

use super::background::Task;
use super::config::parse_config;
use super::document::{
    CONFIG, MANIFEST, MAX_DOCUMENT_BYTES, document, is_manifest_file, manifest_file,
};
use super::image_file;
use super::image_record::ImageRecord;
use super::index::{ImageEntry, Index};
use super::names;
use super::record::IMAGE_FILE;
use super::signatures::{self, SIGNATURES};
use super::store::{Places, Shared};
use super::trash::unique_name;
use super::{StorageError, Store};
use crate::sys::fault;

/// What is derived of an image's documents.
pub(super) struct Content {
    pub(super) id: String,
    pub(super) config: ImageConfiguration,
    pub(super) layers: Vec<Digest>,
    pub(super) artifact_type: Option<String>,
}

/// What a pull or an import hands over. The id and the layers are derived from `config`.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Digest of `manifest`.
    pub manifest_digest: Digest,
    /// The manifest's bytes, verified by the caller.
    pub manifest: Vec<u8>,
    /// The config blob's bytes, verified by the caller.
    pub config: Vec<u8>,
    /// Normalised names to add; each leaves the image that had it.
    pub names: Vec<String>,
    /// Normalised digest references to add; each leaves the image that had it.
    pub digests: Vec<String>,
    /// See [`ImageRecord::size_bytes`].
    pub size_bytes: u64,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// What trust in the image rests on, to be kept with it; see [`Store::signatures`].
    pub signatures: Vec<String>,
}

impl Store {
    /// All images, sorted by id.
    pub fn images(&self) -> Vec<Arc<ImageRecord>> {
        self.shared
            .index()
            .images
            .values()
            .map(|entry| Arc::clone(&entry.record))
            .collect()
    }

    /// The image with this full id.
    pub fn image(&self, id: &str) -> Option<Arc<ImageRecord>> {
        self.shared
            .index()
            .images
            .get(id)
            .map(|entry| Arc::clone(&entry.record))
    }

    /// Makes an image of layers that are all present (hold a lease meanwhile), or adds names and
    /// digests to the one that has this id. A name that another image has moves to this one. Becomes
    /// durable in the background.
    pub fn put_image(&self, new: NewImage) -> Result<Arc<ImageRecord>, StorageError> {
        let id = hex::encode(sha2::Sha256::digest(&new.config));
        let (config, layers) = parse_config(&id, &new.config)?;
        let content = Content {
            id,
            config,
            layers,
            artifact_type: None,
        };
        self.put(content, &new)
    }

    pub(super) fn put(
        &self,
        content: Content,
        new: &NewImage,
    ) -> Result<Arc<ImageRecord>, StorageError> {
        let shared = &self.shared;
        let Content { id, layers, .. } = &content;
        if new.manifest.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(document(
                id,
                MANIFEST,
                format!("over {MAX_DOCUMENT_BYTES} bytes long"),
            ));
        }
        let has_lost = |entry: &ImageEntry| !entry.lost.is_empty();
        if shared.index().images.get(id).is_some_and(has_lost) {
            // Its record would count as later than that of who has the names now.
            if let Err(error) = shared.make_durable() {
                tracing::warn!(image = id, %error, "a kill now would give names back to it");
            }
        }
        let disk = shared.disk();
        let (old, put) = {
            let index = shared.index();
            let missing = layers
                .iter()
                .find(|layer| !index.layers.contains_key(layer.digest()));
            if let Some(layer) = missing {
                let wanted_by = format!("image {id}");
                return Err(StorageError::LayerMissing {
                    diff_id: layer.to_string(),
                    wanted_by,
                });
            }
            // Who has taken the directory away gets a new one.
            let old = index.images.get(id).cloned();
            let last = index.images.values().map(|entry| entry.put).max();
            let old = old.filter(|_| shared.places.images.has(id));
            (old, last.map_or(0, |last| last.saturating_add(1)))
        };
        let entry = shared.merge(content, new, old.as_ref(), put);
        if let Some(old) = &old
            && old.record == entry.record
            && shared.is_written(&old.record.id, new)
        {
            if !old.durable {
                // The round that was to make it so may have failed.
                shared.want(Task::Sync);
            }
            return Ok(Arc::clone(&old.record));
        }
        shared.write_image(&entry, new, old.is_some())?;
        fault::point("image.renamed");
        let record = Arc::clone(&entry.record);
        {
            let mut index = shared.index();
            index.images.insert(record.id.clone(), entry);
            names::take(&mut index.images, &record);
        }
        if old.is_some() {
            shared.forget_manifests(&record);
        }
        drop(disk);
        shared.want(Task::Sync);
        fault::point("image.recorded");
        Ok(record)
    }

    /// Removes an image, then frees the layers that nothing refers to. Returns when the image is gone
    /// from the list; the space comes free in the background. `false`: there was none.
    ///
    /// `used_by` says who uses it, if anybody: the image stays then. It is asked at the instant in
    /// which the image leaves the list, so who has registered as a user and sees the image in the
    /// list afterwards keeps it. It must not wait, nor ask this store.
    pub fn remove_image(
        &self,
        id: &str,
        used_by: &dyn Fn() -> Option<String>,
    ) -> Result<bool, StorageError> {
        let shared = &self.shared;
        {
            let disk = shared.disk();
            let is_there = |index: &Index| {
                if !index.images.contains_key(id) {
                    return Ok(false);
                }
                let id = id.to_owned();
                used_by().map_or(Ok(true), |user| Err(StorageError::ImageInUse { id, user }))
            };
            if !is_there(&shared.index())? {
                return Ok(false);
            }
            // Its names go with it: no other record may bring one back. But on a full disk nothing can be
            // written, and removal is what makes space.
            let is_its = |_: &Index, owner: &String| owner == id;
            if let Err(error) = shared.write_outdated(&disk, is_its) {
                tracing::warn!(image = id, %error, "its names are still in the record of another image");
                shared.want(Task::Sync);
            }
            let entry = {
                let mut index = shared.index();
                if !is_there(&index)? {
                    return Ok(false);
                }
                index.images.remove(id)
            };
            let taken = shared
                .places
                .trash
                .take(&shared.places.images, OsStr::new(id));
            if let (Err(error), Some(entry)) = (taken, entry) {
                // Still on the disk, so it is still there.
                shared.index().images.insert(id.to_owned(), entry);
                return Err(error);
            }
        }
        fault::point("image.taken");
        shared.want(Task::EmptyTrash);
        shared.want(Task::Collect);
        fault::point("image.removed");
        Ok(true)
    }

    /// Frees the layers that nothing refers to, now.
    pub fn collect(&self) -> Result<(), StorageError> {
        self.shared.collect()
    }

    /// The image's manifest as it was pulled. Reads the disk.
    pub fn raw_manifest(&self, id: &str) -> Result<Vec<u8>, StorageError> {
        let read = || {
            let record = self.image(id).ok_or_else(|| unknown(id))?;
            let dir = self.shared.places.images.sub(id)?;
            let name = image_file::manifest_in(&dir, &record.manifest_digest);
            dir.read(&name, MAX_DOCUMENT_BYTES)
        };
        // A pull under another manifest may have come between the record and its file.
        read().or_else(|_| read())
    }

    /// The image's config blob. Reads the disk.
    pub fn raw_config(&self, id: &str) -> Result<Vec<u8>, StorageError> {
        self.read_document(id, CONFIG)
    }

    fn read_document(&self, id: &str, name: &str) -> Result<Vec<u8>, StorageError> {
        if self.image(id).is_none() {
            return Err(unknown(id));
        }
        self.shared
            .places
            .images
            .sub(id)?
            .read(name, MAX_DOCUMENT_BYTES)
    }
}

fn unknown(id: &str) -> StorageError {
    StorageError::UnknownImage { id: id.to_owned() }
}

impl Shared {
    fn merge(
        &self,
        content: Content,
        new: &NewImage,
        old: Option<&ImageEntry>,
        put: u64,
    ) -> ImageEntry {
        let record = old.map(|old| &old.record);
        let union = |old: Option<&Vec<String>>, new: &[String]| {
            let all: BTreeSet<&String> = old.into_iter().flatten().chain(new).collect();
            all.into_iter().cloned().collect()
        };
        let record = ImageRecord {
            names: union(record.map(|record| &record.names), &new.names),
            digests: union(record.map(|record| &record.digests), &new.digests),
            manifest_digest: new.manifest_digest.clone(),
            layers: content.layers,
            size_bytes: new.size_bytes.max(1),
            config: record.map_or_else(|| Arc::new(content.config), |old| Arc::clone(&old.config)),
            loaded: record.map_or_else(SystemTime::now, |record| record.loaded),
            annotations: new.annotations.clone(),
            artifact_type: content.artifact_type,
            id: content.id,
        };
        ImageEntry {
            record: Arc::new(record),
            durable: old.is_some_and(|old| old.durable),
            boot_id: old.map_or_else(|| self.boot_id.clone(), |old| old.boot_id.clone()),
            put,
            lost: old.map_or_else(BTreeMap::new, |old| old.lost.clone()),
            unknown: old.map_or_else(Map::new, |old| old.unknown.clone()),
        }
    }

    /// Whether all that comes with an image is on the disk already: then a pull of what is there
    /// writes nothing.
    fn is_written(&self, id: &str, new: &NewImage) -> bool {
        let manifest = || {
            self.places
                .images
                .sub(id)?
                .read(&manifest_file(&new.manifest_digest), MAX_DOCUMENT_BYTES)
        };
        manifest().is_ok_and(|manifest| manifest == new.manifest)
            && (new.signatures.is_empty()
                || self
                    .read_signatures(id, true)
                    .is_ok_and(|known| new.signatures.iter().all(|text| known.contains(text))))
    }

    /// Removes the manifests that an image had before this record. What a kill leaves of them goes
    /// with the next, or with the image.
    fn forget_manifests(&self, record: &ImageRecord) {
        let current = manifest_file(&record.manifest_digest);
        let forget = || -> Result<(), StorageError> {
            let dir = self.places.images.sub(&record.id)?;
            for name in dir.names()? {
                let name = name.to_string_lossy();
                if is_manifest_file(&name) && name != current {
                    dir.remove_file(&name)?;
                }
            }
            Ok(())
        };
        if let Err(error) = forget() {
            tracing::warn!(id = %record.id, %error, "the manifest of an earlier pull stays");
        }
    }

    /// Writes an image's directory, or adds to the one that is there. The rename that shows the image,
    /// or its new record, is last, so that no crash leaves half of what a pull brings.
    fn write_image(
        self: &Arc<Shared>,
        entry: &ImageEntry,
        new: &NewImage,
        exists: bool,
    ) -> Result<(), StorageError> {
        let Places {
            staging,
            images,
            trash,
            ..
        } = &self.places;
        let id = &entry.record.id;
        let name = unique_name(&id[..12]);
        let build =
            || -> Result<(), StorageError> {
                let dir = staging.create(&name, 0o700)?;
                let manifest = manifest_file(&new.manifest_digest);
                dir.write(&manifest, &new.manifest)?;
                dir.write(CONFIG, &new.config)?;
                dir.write(IMAGE_FILE, &image_file::encode(entry, dir.path())?)?;
                let signed = !new.signatures.is_empty();
                if signed {
                    // a damaged list is as good as none: what came now is what counts
                    let known = self.read_signatures(id, exists).unwrap_or_default();
                    let all = signatures::merged(known, &new.signatures);
                    dir.write(SIGNATURES, &signatures::encode(all, dir.path())?)?;
                }
                fault::point("image.staged");
                if !exists {
                    return staging.move_to(OsStr::new(&name), images, id).map_err(
                        StorageError::io(images.path().join(id), "rename into place"),
                    );
                }
                let target = images.sub(id)?;
                let signatures = signed.then_some(SIGNATURES);
                for file in signatures.into_iter().chain([&manifest, IMAGE_FILE]) {
                    if entry.durable {
                        // It takes the place of what has reached the disk: so must this have.
                        let path = dir.path().join(file);
                        let synced = File::open(&path).and_then(|file| file.sync_all());
                        synced.map_err(StorageError::io(&path, "fsync"))?;
                    }
                    rustix::fs::renameat(&dir, file, &target, file).map_err(StorageError::io(
                        target.path().join(file),
                        "rename into place",
                    ))?;
                    if file == manifest {
                        fault::point("image.manifest-added");
                    }
                }
                Ok(())
            };
        let result = build();
        if (exists || result.is_err())
            && let Err(error) = trash.take(staging, OsStr::new(&name))
        {
            // The next start sweeps it.
            tracing::warn!(image = id, %error, "what was staged stays");
        }
        result
    }

    /// Waits until the disk has everything, then marks the images that were there before as durable,
    /// and has those that lost names to them say so.
    ///
    /// # Errors
    /// The first; all others are made durable nevertheless, and the next round tries again.
    pub(super) fn make_durable(&self) -> Result<(), StorageError> {
        let waiting: Vec<ImageEntry> = {
            let index = self.index();
            let all = index.images.values();
            all.filter(|entry| !entry.durable).cloned().collect()
        };
        let mut outcome = Ok(());
        if !waiting.is_empty() {
            let base = &self.places.base;
            rustix::fs::syncfs(base).map_err(StorageError::io(base.path(), "syncfs"))?;
            for entry in waiting {
                outcome = outcome.and(self.mark_durable(entry));
            }
        }
        let disk = self.disk();
        let as_durable = |index: &Index, owner: &String| {
            index.images.get(owner).is_none_or(|owner| owner.durable)
        };
        outcome.and(self.write_outdated(&disk, as_durable))
    }

    /// Marks an image whose files are on the disk.
    fn mark_durable(&self, entry: ImageEntry) -> Result<(), StorageError> {
        let images = &self.places.images;
        let id = entry.record.id.clone();
        // The record goes to the disk before the lock is taken: nobody waits for a flush.
        let durable = ImageEntry {
            durable: true,
            ..entry.clone()
        };
        let bytes = image_file::encode(&durable, images.path())?;
        let name = unique_name(&id[..12]);
        let staged = self.stage_record(&name, &bytes, &id);
        let placed = staged.and_then(|()| self.place_record(&name, &entry, durable));
        if placed.is_err() {
            drop(self.places.staging.remove_file(&name));
        }
        placed
    }

    fn stage_record(&self, name: &str, bytes: &[u8], id: &str) -> Result<(), StorageError> {
        let file = self.places.staging.write(name, bytes)?;
        let path = self.places.images.path().join(id);
        file.sync_all()
            .map_err(StorageError::io(path, "fsync record"))
    }

    /// Puts the staged record `name` into the place of that of `entry`, if that is the image's still.
    fn place_record(
        &self,
        name: &str,
        entry: &ImageEntry,
        durable: ImageEntry,
    ) -> Result<(), StorageError> {
        let images = &self.places.images;
        let id = entry.record.id.clone();
        let _disk = self.disk();
        let now = self
            .index()
            .images
            .get(&id)
            .map(|now| Arc::clone(&now.record));
        // Renamed or removed meanwhile, by whoever: a new name comes with a new round, which finds it.
        let is_there = images.has(&id);
        if !is_there || !now.is_some_and(|now| Arc::ptr_eq(&now, &entry.record)) {
            return self.places.staging.remove_file(name);
        }
        let target = images.sub(&id)?;
        rustix::fs::renameat(&self.places.staging, name, &target, IMAGE_FILE).map_err(
            StorageError::io(target.path().join(IMAGE_FILE), "rename into place"),
        )?;
        self.index().images.insert(id, durable);
        fault::point("image.durable");
        Ok(())
    }
}
