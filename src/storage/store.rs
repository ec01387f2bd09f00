//! The store: one per daemon, opened once, shared by clone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::Digest;

use super::{ImageRecord, NewImage, StorageError};

/// Where the store lives and what it allows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// crio.conf `root`; everything goes below `<root>/cricket`.
    pub root: PathBuf,
    /// crio.conf `imagestore`: layers and images go below `<imagestore>/cricket` instead.
    pub imagestore: Option<PathBuf>,
    /// Bounds on one layer.
    pub limits: LayerLimits,
}

/// Bounds on unpacking one layer. [`Default`] gives values that honest images do not meet.
#[derive(Debug, Clone)]
pub struct LayerLimits {
    /// Bytes of the uncompressed stream, and of one sparse file's length. 64 GiB.
    pub max_bytes: u64,
    /// Entries. 2 million.
    pub max_entries: u64,
    /// Uncompressed bytes per compressed byte, once `ratio_floor_bytes` are reached. 200
    /// (gzip's own maximum is 1,032; trees of text reach 10).
    pub max_ratio: u64,
    /// Below this many uncompressed bytes the ratio does not matter. 256 MiB.
    pub ratio_floor_bytes: u64,
    /// Bytes that must stay free on the file system. 256 MiB.
    pub reserve_bytes: u64,
}

impl Default for LayerLimits {
    fn default() -> LayerLimits {
        LayerLimits {
            max_bytes: 64 << 30,
            max_entries: 2_000_000,
            max_ratio: 200,
            ratio_floor_bytes: 256 << 20,
            reserve_bytes: 256 << 20,
        }
    }
}

/// How a container's root is mounted.
#[derive(Debug, Clone, Default)]
pub struct RootOptions {
    /// SELinux label for the whole mount (`context=`).
    pub mount_label: Option<String>,
    /// Device nodes in it do not work (storage.conf `mountopt = "nodev"`).
    pub nodev: bool,
}

/// Space used, known without walking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// The directory on the file system in question (CRI `fs_id.mountpoint`).
    pub mountpoint: PathBuf,
}

/// Layers, images and roots. Clones share one store. All methods that change something block on the
/// disk: call them from a blocking thread. All others answer from memory.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
}

impl Store {
    /// Opens `<root>/cricket` (creating it), takes its lock, sweeps what a crash left, drops what a
    /// power cut left not durable, and loads all records into memory.
    pub fn open(settings: Settings) -> Result<Store, StorageError> {
        Ok(Store {
            shared: Arc::new(Shared { settings }),
        })
    }

    /// Whether the layer is there now. To rely on it, ask a [`super::Lease`].
    pub fn has_layer(&self, _diff_id: &Digest) -> bool {
        false
    }

    /// All images, sorted by id.
    pub fn images(&self) -> Vec<Arc<ImageRecord>> {
        Vec::new()
    }

    /// The image with this full id.
    pub fn image(&self, _id: &str) -> Option<Arc<ImageRecord>> {
        None
    }

    /// Makes an image of layers that are all present (hold a lease meanwhile), or adds names and
    /// digests to the one that has this id. A name that another image has moves to this one. Becomes
    /// durable in the background.
    pub fn put_image(&self, new: NewImage) -> Result<Arc<ImageRecord>, StorageError> {
        Err(StorageError::UnknownImage {
            id: new.manifest_digest.to_string(),
        })
    }

    /// Takes names or digest references from an image, which stays even without any.
    pub fn remove_references(&self, id: &str, _references: &[String]) -> Result<(), StorageError> {
        Err(StorageError::UnknownImage { id: id.to_string() })
    }

    /// Removes an image, then frees the layers that nothing refers to. Returns when the image is gone
    /// from the list; the space comes free in the background. `false`: there was none.
    pub fn remove_image(&self, _id: &str) -> Result<bool, StorageError> {
        Ok(false)
    }

    /// The image's manifest as it was pulled. Reads the disk.
    pub fn raw_manifest(&self, id: &str) -> Result<Vec<u8>, StorageError> {
        Err(StorageError::UnknownImage { id: id.to_string() })
    }

    /// The image's config blob. Reads the disk.
    pub fn raw_config(&self, id: &str) -> Result<Vec<u8>, StorageError> {
        Err(StorageError::UnknownImage { id: id.to_string() })
    }

    /// What layers and images occupy.
    pub fn usage(&self) -> Usage {
        Usage {
            bytes: 0,
            inodes: 0,
            mountpoint: self.shared.settings.root.join("cricket"),
        }
    }

    /// Makes and mounts the root filesystem of a container on `layers` (lowest first) and returns its
    /// path, which ends in `/merged`. The layers are protected as long as the root exists, also over a
    /// restart. Called again for a root that is mounted it returns the same.
    pub fn mount_root(
        &self,
        container_id: &str,
        _layers: &[Digest],
        _options: &RootOptions,
    ) -> Result<PathBuf, StorageError> {
        Ok(self
            .shared
            .settings
            .root
            .join("cricket/containers")
            .join(container_id)
            .join("merged"))
    }

    /// Unmounts the root; its writable layer stays. Not mounted or not there is fine.
    pub fn unmount_root(&self, _container_id: &str) -> Result<(), StorageError> {
        Ok(())
    }

    /// Unmounts and removes the root. Not there is fine. The space comes free in the background.
    pub fn remove_root(&self, _container_id: &str) -> Result<(), StorageError> {
        Ok(())
    }

    /// What the writable layer occupies, at most about 10 s old when asked for regularly: an old value
    /// is returned at once and measured anew in the background. `None`: no such root.
    pub fn root_usage(&self, _container_id: &str) -> Option<Usage> {
        None
    }

    /// What all writable layers occupy together, from the same cache.
    pub fn roots_usage(&self) -> Usage {
        Usage {
            bytes: 0,
            inodes: 0,
            mountpoint: self.shared.settings.root.join("cricket"),
        }
    }

    /// Unmounts and removes every root that `keep` does not want; returns their container ids.
    pub fn sweep_roots(&self, _keep: impl Fn(&str) -> bool) -> Vec<String> {
        Vec::new()
    }

    /// Waits until background work (making durable, deleting, measuring) is done; `false`: the
    /// deadline passed first. For a clean shutdown.
    pub fn settle(&self, _deadline: Duration) -> bool {
        true
    }
}
