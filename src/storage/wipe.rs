//! Removing everything that a store holds, because somebody has asked for exactly that.

use std::os::fd::AsFd;

use super::dir::Dir;
use super::store::Places;
use super::{Settings, StorageError, Store, left, usage};

/// What a store occupies on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes, as `du` counts.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Measures all that the store of these settings has on disk. Walks it, so it blocks for long.
///
/// # Errors
/// When a directory cannot be read.
pub fn footprint(settings: &Settings) -> Result<Footprint, StorageError> {
    let mut all = Footprint::default();
    for place in left::places(settings) {
        if let Some(dir) = Dir::open(&place)? {
            let tally =
                usage::measure(dir.as_fd()).map_err(StorageError::io(dir.path(), "measure"))?;
            all.bytes += tally.bytes;
            all.inodes += tally.inodes;
        }
    }
    Ok(all)
}

impl Store {
    /// Removes all images, layers and root filesystems, also what was set aside, and ends with the
    /// store. Images go before their layers, so that a wipe that is interrupted leaves whole images.
    /// Blocks until the space is free.
    ///
    /// # Errors
    /// When something cannot be removed, a root that is mounted for example.
    pub fn wipe(self) -> Result<(), StorageError> {
        let Places {
            base,
            layers,
            images,
            staging,
            quarantine,
            containers,
            trash,
            containers_trash,
            ..
        } = &self.shared.places;
        let _disk = self.shared.disk();
        for name in containers.names()? {
            self.unmount_root(&name.to_string_lossy())?;
            containers_trash.take(containers, &name)?;
        }
        for place in [images, layers, staging, quarantine] {
            for name in place.names()? {
                trash.take(place, &name)?;
            }
        }
        for name in base.names()? {
            if let Some(note) = name.to_str().filter(|name| name.ends_with(".json")) {
                base.remove_file(note)?;
            }
        }
        self.shared.empty_trash()
    }
}
