//! Layers as a pod with a user namespace sees them: idmapped mounts (mount_setattr(2)), so that the
//! image's root owns its files as the pod's root, and no file is copied or changed.
//!
//! overlayfs takes them as lower directories from Linux 5.19 on, and mounts of no mount namespace
//! only from 6.15 on. So they are attached to one directory of the container, one on the other,
//! while the overlay is being made, which has its own copies of them then.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::MoveMountFlags;

use super::dir::Dir;
use super::overlay::{self, Refusal};
use super::{RootIds, RootOptions, StorageError};
use crate::sys::user_namespace::Range;
use crate::sys::{mounts, passage};

/// The directory of a container that they are attached to.
pub(super) const PLACE: &str = "idmapped";

/// Idmapped mounts of layers, detached again when dropped.
#[derive(Debug)]
pub(super) struct Idmapped {
    mounts: Vec<OwnedFd>,
    place: PathBuf,
}

impl Idmapped {
    /// Makes one of each of `layers` in the container's directory, if `options` ask for that.
    pub(super) fn of(
        root: &Dir,
        layers: &[PathBuf],
        options: &RootOptions,
    ) -> Result<Option<Idmapped>, Refusal> {
        let ids = options.ids.as_ref();
        ids.map(|ids| Idmapped::attach(root, layers, ids))
            .transpose()
    }

    fn attach(root: &Dir, layers: &[PathBuf], ids: &RootIds) -> Result<Idmapped, Refusal> {
        let place = root.ensure(PLACE, 0o700).map_err(|error| {
            (
                "make the place of idmapped layers",
                std::io::Error::other(error),
            )
        })?;
        let userns = File::open(&ids.userns).map_err(|error| ("open the user namespace", error))?;
        let mut attached = Idmapped {
            mounts: Vec::with_capacity(layers.len()),
            place: place.path().to_path_buf(),
        };
        for layer in layers {
            let mount = mounts::idmapped(layer, &userns).map_err(|error| {
                let step = "idmap a layer (the file system of `root` has to support idmapped \
                            mounts, as ext4, xfs and btrfs do)";
                (step, error)
            })?;
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            rustix::mount::move_mount(&mount, "", &place, "", flags)
                .map_err(|errno| ("attach an idmapped layer", errno.into()))?;
            attached.mounts.push(mount);
        }
        Ok(attached)
    }

    /// Where overlayfs finds them: through their descriptors, because one covers the other.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let path = |mount: &OwnedFd| Path::new("/proc/self/fd").join(mount.as_raw_fd().to_string());
        self.mounts.iter().map(path).collect()
    }
}

impl Drop for Idmapped {
    fn drop(&mut self) {
        if let Err(errno) = overlay::unmount(&self.place) {
            tracing::warn!(place = %self.place.display(), %errno, "idmapped layers stay attached");
        }
    }
}

impl RootIds {
    /// The ids on the host of a user and a group of the container.
    pub fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        (outside(self.uids, uid), outside(self.gids, gid))
    }
}

/// The id on the host of an id in the container; of its root for an id that it does not have.
fn outside(range: Range, id: u32) -> u32 {
    let offset = id.checked_sub(range.inside);
    let offset = offset.filter(|offset| *offset < range.length);
    range.outside + offset.unwrap_or(0)
}

/// The runtime mounts the root as the user who is root in the container, so that one has to get
/// through every directory above it. `containers`: `<root>/cricket/containers`, and what is below
/// `root` is ours to open.
pub(super) fn check_reachable(containers: &Path, merged: &Path) -> Result<(), StorageError> {
    let own = containers.ancestors().nth(2).unwrap_or(containers);
    match passage::open(own, merged).map_err(StorageError::io(merged, "open the way to"))? {
        None => Ok(()),
        Some(path) => Err(StorageError::Unreachable { path }),
    }
}
