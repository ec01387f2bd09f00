//! Layers: unpacking and freeing them, and the leases that keep them while an image is put together.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci_spec::image::{Digest, DigestAlgorithm};

use super::background::Task;
use super::blob_file::BlobFile;
use super::dir::Dir;
use super::index::LayerEntry;
use super::record::{self, LAYER_FILE, LayerRecord};
use super::store::Shared;
use super::trash::unique_name;
use super::unpack::{self, Job};
use super::usage::{self, Tally};
use super::{StorageError, Store};
use crate::sys::fault;

/// The tree inside a layer's directory.
pub(super) const DIFF: &str = "diff";

/// A layer of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// sha256 of the uncompressed tar, hex.
    pub diff_id: String,
    /// What it occupies on disk, in bytes, as `du` counts.
    pub bytes: u64,
    /// How many inodes it has.
    pub inodes: u64,
    /// Of a layer that is a file of an artifact: that file. Others may share its bytes.
    pub file: Option<BlobFile>,
}

/// Protects every layer that it found or unpacked until it is dropped; then those that no image and no
/// root refers to are freed in the background. A pull holds one until its `put_image` is done.
#[derive(Debug)]
pub struct Lease {
    pub(super) store: Store,
    held: Mutex<HashSet<String>>,
}

/// The hex of a digest that names a layer or an image.
pub(super) fn sha256_hex(digest: &Digest) -> Result<&str, StorageError> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 => Ok(digest.digest()),
        _ => Err(StorageError::DigestAlgorithm {
            digest: digest.to_string(),
        }),
    }
}

impl Store {
    /// A new lease, protecting nothing yet.
    pub fn lease(&self) -> Lease {
        Lease {
            store: self.clone(),
            held: Mutex::default(),
        }
    }

    /// Whether the layer is there now. To rely on it, ask a [`Lease`].
    #[cfg(test)]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.shared.index().layers.contains_key(diff_id.digest())
    }
}

impl Lease {
    /// Whether the layer is there; if so it stays as long as this lease.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.hold(diff_id.digest()).is_some()
    }

    /// Unpacks an uncompressed tar stream as the layer `diff_id`: reads once, hashes what it reads,
    /// verifies, renames into place. Blocking; `tar` is read on a thread of its own. Reads `tar` to its
    /// very end. The layer stays as long as this lease. When someone else finished the same layer
    /// meanwhile, theirs is taken and this work thrown away.
    ///
    /// `compressed` is how many bytes the caller has read from its source so far (it keeps counting
    /// meanwhile); it is what the expansion bound is measured against. 0 means unknown: no ratio check.
    ///
    /// # Errors
    /// [`StorageError::LayerRead`] carries an error of `tar` itself; all others are about the content
    /// or the disk. After any error nothing of the layer is left.
    pub fn unpack_layer(
        &self,
        diff_id: &Digest,
        tar: impl Read + Send,
        compressed: &AtomicU64,
    ) -> Result<LayerInfo, StorageError> {
        let shared = &self.store.shared;
        self.build(diff_id, |dir| {
            shared.build_layer(dir, diff_id, tar, compressed)
        })
    }

    /// Makes a layer by filling a directory in staging, unless it is there.
    pub(super) fn build(
        &self,
        diff_id: &Digest,
        fill: impl FnOnce(&Dir) -> Result<LayerEntry, StorageError>,
    ) -> Result<LayerInfo, StorageError> {
        let hex = sha256_hex(diff_id)?;
        if let Some(info) = self.hold(hex) {
            return Ok(info);
        }
        let shared = &self.store.shared;
        let staging = &shared.places.staging;
        let name = unique_name(&hex[..12]);
        let result = staging
            .create(&name, 0o700)
            .and_then(|dir| {
                fault::point("layer.staged");
                fill(&dir)
            })
            .and_then(|entry| {
                fault::point("layer.filled");
                self.publish(&name, entry)
            });
        if !matches!(result, Ok(Published::Renamed(_))) {
            shared.places.trash.take(staging, OsStr::new(&name))?;
        }
        shared.want(Task::EmptyTrash);
        match result? {
            Published::Renamed(info) | Published::WasThere(info) => Ok(info),
        }
    }

    /// Holds the layer if it is there.
    pub(super) fn hold(&self, hex: &str) -> Option<LayerInfo> {
        let mut held = self.held();
        let mut index = self.store.shared.index();
        let layer = index.layers.get_mut(hex)?;
        if held.insert(hex.to_owned()) {
            layer.leases += 1;
        }
        Some(layer.info.clone())
    }

    /// Renames a finished layer into place, unless another unpack of the same was faster.
    fn publish(&self, name: &str, entry: LayerEntry) -> Result<Published, StorageError> {
        let shared = &self.store.shared;
        let hex = entry.info.diff_id.clone();
        let _disk = shared.disk();
        if let Some(info) = self.hold(&hex) {
            return Ok(Published::WasThere(info));
        }
        let layers = &shared.places.layers;
        shared
            .places
            .staging
            .move_to(OsStr::new(name), layers, &hex)
            .map_err(StorageError::io(
                layers.path().join(&hex),
                "rename layer into place",
            ))?;
        fault::point("layer.renamed");
        let info = entry.info.clone();
        shared.index().layers.insert(hex.clone(), entry);
        self.hold(&hex);
        Ok(Published::Renamed(info))
    }

    fn held(&self) -> MutexGuard<'_, HashSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Published {
    Renamed(LayerInfo),
    WasThere(LayerInfo),
}

impl Drop for Lease {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.held());
        let shared = &self.store.shared;
        let mut idle = false;
        {
            let mut index = shared.index();
            for hex in held {
                if let Some(layer) = index.layers.get_mut(&hex) {
                    layer.leases -= 1;
                }
            }
            idle |= !index.unreferenced().is_empty();
        }
        if idle {
            shared.want(Task::Collect);
        }
    }
}

/// Writes the record of a layer that is being made into its directory.
pub(super) fn describe(staging: &Dir, record: LayerRecord) -> Result<LayerEntry, StorageError> {
    staging.write(LAYER_FILE, &record::encode(&record, staging.path())?)?;
    Ok(record.into())
}

impl Shared {
    /// Fills a staging directory with the layer and its record.
    fn build_layer(
        &self,
        staging: &Dir,
        diff_id: &Digest,
        tar: impl Read + Send,
        compressed: &AtomicU64,
    ) -> Result<LayerEntry, StorageError> {
        let into = staging.create(DIFF, 0o755)?;
        // The umask may have taken bits of it.
        rustix::fs::fchmod(&into, rustix::fs::Mode::from_raw_mode(0o755))
            .map_err(StorageError::io(into.path(), "chmod"))?;
        let job = Job {
            diff_id,
            into: &into,
            beside: staging,
            trash: &self.places.trash,
            limits: &self.settings.limits,
            compressed,
        };
        let unpacked = unpack::unpack(&job, tar)?;
        let tally = if unpacked.exact {
            Tally {
                bytes: unpacked.bytes,
                inodes: unpacked.inodes,
            }
        } else {
            usage::measure(into.as_fd()).map_err(StorageError::io(into.path(), "measure"))?
        };
        let tally = Tally {
            bytes: tally.bytes + unpacked.beside.bytes,
            inodes: tally.inodes + unpacked.beside.inodes,
        };
        let record = LayerRecord {
            tar_bytes: unpacked.tar_bytes,
            is_plain: unpacked.exact,
            root: unpacked.root,
            ..LayerRecord::new(diff_id.digest().to_owned(), tally)
        };
        describe(staging, record)
    }

    /// Frees every layer that nothing refers to.
    pub(super) fn collect(self: &std::sync::Arc<Shared>) -> Result<(), StorageError> {
        let _disk = self.disk();
        // Gone from the index first: nobody finds, leases or mounts one that is on its way out.
        let free: Vec<(String, LayerEntry)> = {
            let mut index = self.index();
            let ids = index.unreferenced();
            ids.into_iter()
                .filter_map(|id| index.layers.remove_entry(&id))
                .collect()
        };
        let mut result = Ok(());
        for (id, entry) in free {
            if let Err(error) = self.places.trash.take(&self.places.layers, OsStr::new(&id)) {
                // Still there, so it still counts; the next collection tries again.
                self.index().layers.insert(id, entry);
                result = Err(error);
            }
        }
        self.want(Task::EmptyTrash);
        result
    }
}
