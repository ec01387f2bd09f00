//! Volumes beside a container's root: other images, and directories for what its image declares.

use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::image::Digest;
use serde_json::Map;

use super::idmapped::Idmapped;
use super::layer::sha256_hex;
use super::overlay::Overlay;
use super::record::{self, ROOT_FILE, RootRecord};
use super::root::{check_container_id, check_layers, is_mount, lower_directories};
use super::store::Shared;
use super::{RootOptions, StorageError, Store};

/// Below a container's directory: mount points of image volumes.
const IMAGES: &str = "images";
/// Below a container's directory: what is bound where the image declares volumes.
const VOLUMES: &str = "volumes";

impl Store {
    /// Mounts the image of these layers (lowest first) read-only, as volume `number` of a container
    /// that has a root, and returns where. The layers are protected as long as the root exists, also
    /// over a restart; [`Store::unmount_root`] and [`Store::remove_root`] undo it. Called again for a
    /// volume that is mounted it returns the same.
    pub fn mount_image_volume(
        &self,
        container_id: &str,
        number: usize,
        layers: &[Digest],
        options: &RootOptions,
    ) -> Result<PathBuf, StorageError> {
        let shared = &self.shared;
        check_container_id(container_id)?;
        let layers: Vec<String> = layers
            .iter()
            .map(|layer| sha256_hex(layer).map(str::to_owned))
            .collect::<Result<_, _>>()?;
        let record = RootRecord {
            version: record::VERSION,
            layers: shared.protect_also(container_id, &layers)?,
            boot_id: shared.boot_id.clone(),
            unknown: Map::new(),
        };
        let dir = shared.places.containers.sub(container_id)?;
        dir.replace(ROOT_FILE, &record::encode(&record, dir.path())?)?;
        let target = dir
            .ensure(IMAGES, 0o700)?
            .ensure(&number.to_string(), 0o755)?;
        if is_mount(&target)? {
            return Ok(target.path().to_path_buf());
        }
        let mut lowers = lower_directories(shared.places.layers.path(), &layers);
        // Without an upper directory overlayfs wants at least two lower ones.
        if lowers.len() < 2 {
            lowers.push(shared.places.empty.path().to_path_buf());
        }
        if lowers.len() == 1 {
            lowers.push(target.path().to_path_buf());
        }
        let root_error = |(step, source)| StorageError::Root {
            container: container_id.to_owned(),
            step,
            source,
        };
        let mapped = Idmapped::of(&dir, &lowers, options).map_err(root_error)?;
        let overlay = Overlay {
            lowers: mapped.as_ref().map_or(lowers, Idmapped::paths),
            upper: None,
            target: target.as_fd(),
            options,
        };
        overlay.mount().map_err(root_error)?;
        Ok(target.path().to_path_buf())
    }

    /// Makes the directory that is bound where the image declares its volume `number`, for a container
    /// that has a root of these options. It goes with the root.
    pub fn make_volume(
        &self,
        container_id: &str,
        number: usize,
        options: &RootOptions,
    ) -> Result<PathBuf, StorageError> {
        check_container_id(container_id)?;
        let dir = self.shared.places.containers.sub(container_id)?;
        let volume = dir
            .ensure(VOLUMES, 0o711)?
            .ensure(&number.to_string(), 0o755)?;
        if let Some(ids) = &options.ids {
            let (uid, gid) = ids.outside(0, 0);
            std::os::unix::fs::fchown(&volume, Some(uid), Some(gid))
                .map_err(StorageError::io(volume.path(), "set the owner"))?;
        }
        Ok(volume.path().to_path_buf())
    }
}

impl Shared {
    /// Protects further layers for as long as the container's root exists, and returns all that are.
    fn protect_also(&self, id: &str, layers: &[String]) -> Result<Vec<String>, StorageError> {
        let mut index = self.index();
        check_layers(&index, id, layers)?;
        let Some(root) = index.roots.get_mut(id) else {
            return Err(StorageError::Root {
                container: id.to_owned(),
                step: "find it for an image volume",
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let new: Vec<String> = layers
            .iter()
            .filter(|layer| !root.layers.contains(layer))
            .cloned()
            .collect();
        root.layers.extend(new);
        Ok(root.layers.clone())
    }

    /// Where a container's image volumes are mounted, or were to be.
    pub(super) fn image_volumes(&self, container_id: &str) -> Result<Vec<PathBuf>, StorageError> {
        let Ok(dir) = self.places.containers.sub(container_id) else {
            return Ok(Vec::new());
        };
        if !dir.has(IMAGES) {
            return Ok(Vec::new());
        }
        let images = dir.sub(IMAGES)?;
        let names = images.names()?;
        Ok(names
            .into_iter()
            .map(|name| images.path().join(name))
            .collect())
    }
}
