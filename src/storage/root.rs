//! Root filesystems of containers: `containers/<id>/{diff,work,merged}` and what they occupy.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use oci_spec::image::Digest;
use rustix::fs::{AtFlags, Gid, Mode, StatxAttributes, StatxFlags, Uid};
use serde_json::Map;

use super::background::Task;
use super::dir::Dir;
use super::idmapped::{self, Idmapped};
use super::index::{Index, RootEntry};
use super::layer::{DIFF, sha256_hex};
use super::overlay::{self, Overlay};
use super::record::{self, ROOT_FILE, RootRecord};
use super::store::Shared;
use super::unpack::RootAttributes;
use super::usage;
use super::{RootIds, RootOptions, StorageError, Store, Usage};
use crate::sys::fault;

/// How old a root's usage may be before it is measured anew when asked for; containerd's period.
const USAGE_AGE: Duration = Duration::from_secs(10);

const MERGED: &str = "merged";
const WORK: &str = "work";

impl Store {
    /// Makes and mounts the root filesystem of a container on `layers` (lowest first) and returns its
    /// path, which ends in `/merged`. The layers are protected as long as the root exists, also over a
    /// restart. Called again for a root that is mounted it returns the same. After an error nothing of
    /// a new root is left.
    pub fn mount_root(
        &self,
        container_id: &str,
        layers: &[Digest],
        options: &RootOptions,
    ) -> Result<PathBuf, StorageError> {
        let shared = &self.shared;
        check_container_id(container_id)?;
        let layers: Vec<String> = layers
            .iter()
            .map(|l| sha256_hex(l).map(str::to_owned))
            .collect::<Result<_, _>>()?;
        let (attributes, known) = shared.enter_root(container_id, &layers)?;
        let result = shared.build_root(container_id, &layers, attributes, options);
        if result.is_err() && !known {
            // The first error is the one to report; what stays behind the sweep finds.
            if let Err(error) = self.remove_root(container_id) {
                tracing::warn!(container = container_id, %error, "half-made root stays behind");
            }
        }
        result
    }

    /// Where the root of a container is mounted; beside it is its writable layer, `diff`.
    pub fn root_path(&self, container_id: &str) -> PathBuf {
        let containers = self.shared.places.containers.path();
        containers.join(container_id).join(MERGED)
    }

    /// Parent of all roots, each named after its container.
    pub fn roots_place(&self) -> PathBuf {
        self.shared.places.containers.path().to_path_buf()
    }

    /// The same for what has no root: nothing is mounted there, and the `diff` beside it is empty.
    pub fn rootless_path(&self) -> PathBuf {
        self.shared.places.rootless.path().join(MERGED)
    }

    /// Where overlayfs keeps what a container changed in its root filesystem.
    pub fn root_diff(&self, container_id: &str) -> Result<PathBuf, StorageError> {
        check_container_id(container_id)?;
        let containers = self.shared.places.containers.path();
        Ok(containers.join(container_id).join(DIFF))
    }

    /// Unmounts the root and the container's image volumes; its writable layer stays. Not mounted or
    /// not there is fine.
    pub fn unmount_root(&self, container_id: &str) -> Result<(), StorageError> {
        check_container_id(container_id)?;
        let place = self.shared.places.containers.path().join(container_id);
        let unmount = |step: &'static str, target: &Path| {
            overlay::unmount(target).map_err(|errno| StorageError::Root {
                container: container_id.to_owned(),
                step,
                source: errno.into(),
            })
        };
        let root = unmount("unmount", &place.join(MERGED));
        // Empty, unless a daemon was killed while it made a root.
        unmount("unmount the layers of", &place.join(idmapped::PLACE))?;
        for volume in self.shared.image_volumes(container_id)? {
            unmount("unmount an image volume of", &volume)?;
        }
        root
    }

    /// Unmounts and removes the root. Not there is fine. The space comes free in the background.
    pub fn remove_root(&self, container_id: &str) -> Result<(), StorageError> {
        self.unmount_root(container_id)?;
        let shared = &self.shared;
        let places = &shared.places;
        places
            .containers_trash
            .take(&places.containers, OsStr::new(container_id))?;
        let orphans = {
            let mut index = shared.index();
            index.roots.remove(container_id);
            !index.unreferenced().is_empty()
        };
        shared.want(Task::EmptyTrash);
        if orphans {
            shared.want(Task::Collect);
        }
        Ok(())
    }

    /// What the writable layer occupies, at most about 10 s old when asked for regularly: an old value
    /// is returned at once and measured anew in the background. `None`: no such root.
    pub fn root_usage(&self, container_id: &str) -> Option<Usage> {
        let shared = &self.shared;
        let (bytes, inodes, measured) = {
            let index = shared.index();
            let root = index.roots.get(container_id)?;
            (root.bytes, root.inodes, root.measured)
        };
        if measured.is_none_or(|measured| measured.elapsed() >= USAGE_AGE) {
            shared
                .to_measure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(container_id.to_owned());
            shared.want(Task::Measure);
        }
        Some(Usage {
            bytes,
            inodes,
            mountpoint: shared.places.containers.path().to_path_buf(),
        })
    }

    /// What all writable layers occupy together, as far as it has been asked for one by one.
    pub fn roots_usage(&self) -> Usage {
        let shared = &self.shared;
        let mountpoint = shared.places.containers.path().to_path_buf();
        let index = shared.index();
        let add = |usage: Usage, root: &RootEntry| Usage {
            bytes: usage.bytes + root.bytes,
            inodes: usage.inodes + root.inodes,
            ..usage
        };
        index.roots.values().fold(
            Usage {
                bytes: 0,
                inodes: 0,
                mountpoint,
            },
            add,
        )
    }

    /// Unmounts and removes every root that `keep` does not want; returns their container ids. One that
    /// cannot be removed is reported and left for the next time.
    #[cfg(test)]
    pub fn sweep_roots(&self, keep: impl Fn(&str) -> bool) -> Vec<String> {
        let ids: Vec<String> = self.shared.index().roots.keys().cloned().collect();
        let mut swept = Vec::new();
        for id in ids.into_iter().filter(|id| !keep(id)) {
            match self.remove_root(&id) {
                Ok(()) => swept.push(id),
                Err(error) => {
                    tracing::warn!(container = %id, %error, "leftover root cannot be removed");
                }
            }
        }
        swept
    }
}

impl Shared {
    /// Puts the root into the index, which protects its layers from here on. Also says what mode and
    /// owner it gets, and whether it was known before.
    fn enter_root(
        &self,
        id: &str,
        layers: &[String],
    ) -> Result<(Option<RootAttributes>, bool), StorageError> {
        let mut index = self.index();
        check_layers(&index, id, layers)?;
        let attributes = index.root_attributes(layers);
        let known = index.roots.contains_key(id);
        // Until it is measured: the directory itself.
        let new = RootEntry {
            layers: Vec::new(),
            bytes: 4096,
            inodes: 1,
            measured: None,
        };
        let root = index.roots.entry(id.to_owned()).or_insert(new);
        // What a root that is there uses stays protected as well.
        let used = std::mem::replace(&mut root.layers, layers.to_vec());
        root.layers
            .extend(used.into_iter().filter(|layer| !layers.contains(layer)));
        Ok((attributes, known))
    }

    fn build_root(
        &self,
        id: &str,
        layers: &[String],
        attributes: Option<RootAttributes>,
        options: &RootOptions,
    ) -> Result<PathBuf, StorageError> {
        let dir = self.places.containers.ensure(id, 0o711)?;
        let merged = dir.ensure(MERGED, 0o755)?;
        let root_error = |(step, source)| StorageError::Root {
            container: id.to_owned(),
            step,
            source,
        };
        if options.ids.is_some() {
            idmapped::check_reachable(self.places.containers.path(), merged.path())?;
        }
        if is_mount(&merged)? {
            return Ok(merged.path().to_path_buf());
        }
        let record = RootRecord {
            version: record::VERSION,
            layers: layers.to_vec(),
            boot_id: self.boot_id.clone(),
            unknown: Map::new(),
        };
        dir.write(ROOT_FILE, &record::encode(&record, dir.path())?)?;
        fault::point("root.recorded");
        // A volatile overlay marks its work directory, and is not mounted on it a second time.
        if dir.has(WORK) {
            self.places.containers_trash.take(&dir, OsStr::new(WORK))?;
        }
        let work = dir.create(WORK, 0o700)?;
        let is_new = !dir.has(DIFF);
        let diff = dir.ensure(DIFF, 0o755)?;
        if is_new {
            // The root directory of an overlay has the attributes of the upper one.
            set_root_attributes(&diff, attributes, options.ids.as_ref())?;
        }
        let mut lowers = lower_directories(self.places.layers.path(), layers);
        if lowers.is_empty() {
            lowers.push(self.places.empty.path().to_path_buf());
        }
        let mapped = Idmapped::of(&dir, &lowers, options).map_err(root_error)?;
        let overlay = Overlay {
            lowers: mapped.as_ref().map_or(lowers, Idmapped::paths),
            upper: Some(overlay::Upper {
                diff: diff.path().to_path_buf(),
                work: work.path().to_path_buf(),
            }),
            target: merged.as_fd(),
            options,
        };
        overlay.mount().map_err(root_error)?;
        fault::point("root.mounted");
        Ok(merged.path().to_path_buf())
    }

    /// Measures the roots that were asked about, without any lock.
    pub(super) fn measure_roots(&self) {
        let wanted = std::mem::take(
            &mut *self
                .to_measure
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for id in wanted {
            let result = self
                .places
                .containers
                .sub(&id)
                .and_then(|dir| dir.sub(DIFF))
                .and_then(|diff| {
                    usage::measure(diff.as_fd()).map_err(StorageError::io(diff.path(), "measure"))
                });
            let mut index = self.index();
            // Removed meanwhile: nothing to say.
            let Some(root) = index.roots.get_mut(&id) else {
                continue;
            };
            root.measured = Some(Instant::now());
            match result {
                Ok(tally) => (root.bytes, root.inodes) = (tally.bytes, tally.inodes),
                Err(error) => {
                    tracing::debug!(container = %id, %error, "writable layer not measured")
                }
            }
        }
    }
}

/// The layers (lowest first) as overlayfs wants them: topmost first, and each once, for it refuses a
/// directory that it has already (ELOOP). An image may well have a layer twice, mostly the empty one
/// that older builders made for each step that changed no file. What the lower of the two holds the
/// upper one puts there again, so only that one counts.
pub(super) fn lower_directories(place: &Path, layers: &[String]) -> Vec<PathBuf> {
    let mut seen = HashSet::with_capacity(layers.len());
    let topmost = layers.iter().rev().filter(|layer| seen.insert(*layer));
    topmost.map(|layer| place.join(layer).join(DIFF)).collect()
}

/// All layers are in the store.
pub(super) fn check_layers(
    index: &Index,
    container_id: &str,
    layers: &[String],
) -> Result<(), StorageError> {
    let missing = |layer: &&String| !index.layers.contains_key(*layer);
    match layers.iter().find(missing) {
        None => Ok(()),
        Some(lost) => Err(StorageError::LayerMissing {
            diff_id: format!("sha256:{lost}"),
            wanted_by: format!("container {container_id}"),
        }),
    }
}

fn set_root_attributes(
    diff: &Dir,
    attributes: Option<RootAttributes>,
    ids: Option<&RootIds>,
) -> Result<(), StorageError> {
    let RootAttributes { mode, uid, gid } = attributes.unwrap_or(RootAttributes {
        mode: 0o755,
        uid: 0,
        gid: 0,
    });
    let (uid, gid) = ids.map_or((uid, gid), |ids| ids.outside(uid, gid));
    rustix::fs::fchown(diff, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .and_then(|()| rustix::fs::fchmod(diff, Mode::from_raw_mode(mode)))
        .map_err(StorageError::io(diff.path(), "set owner and mode"))
}

pub(super) fn is_mount(dir: &Dir) -> Result<bool, StorageError> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .map_err(StorageError::io(dir.path(), "statx"))?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A container's id becomes a file name; the caller's ids are 64 hex digits, other plain names are
/// allowed.
pub(super) fn check_container_id(id: &str) -> Result<(), StorageError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.bytes().all(plain) {
        return Ok(());
    }
    Err(StorageError::InvalidId {
        kind: "container",
        id: id.chars().take(80).collect(),
    })
}
