//! The store: one per daemon, opened once, shared by clone.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::StorageError;
use super::background::{Background, Task};
use super::dir::Dir;
use super::index::Index;
use super::trash::Trash;
use crate::sys::boot;
use crate::sys::user_namespace::Range;

/// How long after a failure it is tried again to make images durable: each try flushes a file system.
const SYNC_AGAIN: Duration = Duration::from_secs(60);

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

impl Settings {
    /// The directory of the containers' roots, and that of layers and images, which may be the same.
    pub(super) fn directories(&self) -> (PathBuf, PathBuf) {
        let own = self.root.join("cricket");
        let base = self.imagestore.as_ref();
        let base = base.map_or_else(|| own.clone(), |dir| dir.join("cricket"));
        (own, base)
    }
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
    /// The pod's user namespace, whose root shall own it; none for the host's.
    pub ids: Option<RootIds>,
}

/// Whose a root filesystem is, when the container has a user namespace.
#[derive(Debug, Clone)]
pub struct RootIds {
    /// The user namespace.
    pub userns: PathBuf,
    /// Its user ids.
    pub uids: Range,
    /// Its group ids.
    pub gids: Range,
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
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// `/proc/sys/kernel/random/boot_id`.
    pub(super) boot_id: String,
    pub(super) places: Places,
    /// Held while names below `layers/` and `images/` change. Taken before the index, never by a read.
    pub(super) disk: Mutex<()>,
    index: Mutex<Index>,
    background: Background,
    /// When the last round of making durable went wrong, if it did.
    sync_failed: Mutex<Option<Instant>>,
    /// Roots whose usage was asked for when it was old.
    pub(super) to_measure: Mutex<BTreeSet<String>>,
}

/// The store's directories, held open.
#[derive(Debug)]
pub(super) struct Places {
    /// `<imagestore>/cricket`, or the same as `own`.
    pub(super) base: Dir,
    pub(super) layers: Dir,
    pub(super) images: Dir,
    pub(super) staging: Dir,
    pub(super) quarantine: Dir,
    pub(super) empty: Dir,
    /// On the file system of layers and images.
    pub(super) trash: Arc<Trash>,
    pub(super) containers: Dir,
    /// Holds an empty `diff`, for those who ask for the writable layer of what has none.
    pub(super) rootless: Dir,
    /// On the file system of the containers; often the same.
    pub(super) containers_trash: Arc<Trash>,
    /// Keep the store ours while they are open.
    pub(super) _locks: Vec<File>,
}

impl Shared {
    pub(super) fn new(settings: Settings, boot_id: String, places: Places, index: Index) -> Shared {
        Shared {
            settings,
            boot_id,
            places,
            disk: Mutex::default(),
            index: Mutex::new(index),
            background: Background::default(),
            sync_failed: Mutex::default(),
            to_measure: Mutex::default(),
        }
    }

    /// The index. Nothing that may wait is done while it is held.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // A panic ends the process; in a test the maps are whole between any two statements.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, ()> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn want(self: &Arc<Shared>, task: Task) {
        Background::want(self, |shared| &shared.background, task, Shared::run);
    }

    fn run(self: &Arc<Shared>, task: Task) {
        let result = match task {
            Task::Sync => self.make_durable(),
            Task::EmptyTrash => self.empty_trash(),
            Task::Collect => self.collect(),
            Task::Measure => {
                self.measure_roots();
                Ok(())
            }
        };
        if let Err(error) = result {
            if task == Task::Sync {
                *self.sync_failed() = Some(Instant::now());
            }
            tracing::warn!(?task, %error, "storage: background work went wrong");
        }
    }

    /// Tries to make durable again what could not be. Called now and then by who asks for something
    /// else, so that no timer is needed.
    pub(super) fn sync_again(self: &Arc<Shared>) {
        let is_due = self
            .sync_failed()
            .is_some_and(|at| at.elapsed() >= SYNC_AGAIN);
        if is_due {
            *self.sync_failed() = None;
            self.want(Task::Sync);
        }
    }

    fn sync_failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.sync_failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn empty_trash(&self) -> Result<(), StorageError> {
        let Places {
            trash,
            containers_trash,
            ..
        } = &self.places;
        let result = trash.empty();
        if Arc::ptr_eq(trash, containers_trash) {
            return result;
        }
        result.and(containers_trash.empty())
    }
}

impl Store {
    /// Opens `<root>/cricket` (creating it), takes its lock, sweeps what a crash left, drops what a
    /// power cut left not durable, and loads all records into memory. Every root that a crash left is
    /// kept: whose it is, this room does not know (`leaks`).
    pub fn open(settings: Settings) -> Result<Store, StorageError> {
        let boot_id = boot::id().map_err(StorageError::io(boot::BOOT_ID, "read this boot's id"))?;
        Store::open_in_boot(settings, &boot_id)
    }

    /// Waits until background work (making durable, deleting, measuring) is done; `false`: the
    /// deadline passed first. For a clean shutdown.
    pub fn settle(&self, deadline: Duration) -> bool {
        self.shared.background.settle(deadline)
    }
}

/// Checks an id that becomes a file name: 64 lower-case hex digits.
pub(super) fn check_hex_id(kind: &'static str, id: &str) -> Result<(), StorageError> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if id.len() == 64 && id.bytes().all(hex) {
        return Ok(());
    }
    Err(StorageError::InvalidId {
        kind,
        id: id.chars().take(80).collect(),
    })
}
