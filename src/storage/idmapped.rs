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

use super::RootIds;
use super::dir::Dir;
use super::overlay::{self, Refusal};
use crate::sys::mounts;

/// The directory of a container that they are attached to.
pub(super) const PLACE: &str = "idmapped";

/// Idmapped mounts of layers, detached again when dropped.
#[derive(Debug)]
pub(super) struct Idmapped {
    mounts: Vec<OwnedFd>,
    place: PathBuf,
}

impl Idmapped {
    /// Makes one of each of `layers` in the container's directory.
    pub(super) fn attach(
        root: &Dir,
        layers: &[PathBuf],
        ids: &RootIds,
    ) -> Result<Idmapped, Refusal> {
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
