//! Volumes that come from images: an image mounted by the kubelet's wish (KEP-4639), and the paths
//! that a container's own image declares as volumes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::record::ImageVolume;
use super::sources::io_error;
use super::{Config, ContainerError, Containers, Record};
use crate::spec::config::Mount;
use crate::spec::inputs::{DeclaredVolume, MountSource};
use crate::storage::{ImageRecord, RootOptions};

/// Most paths that one image may declare as volumes: each is a directory or a mount.
const MAX_DECLARED: usize = 256;

/// What becomes of the paths that an image declares as volumes (`image_volumes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredVolumes {
    /// A directory in the writable layer.
    Mkdir,
    /// A directory beside the writable layer, which goes with the container.
    Bind,
    /// What the image has there, or nothing.
    Ignore,
}

/// An image volume that is to be mounted.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) volume: ImageVolume,
    pub(super) image: Arc<ImageRecord>,
}

impl Containers {
    /// Looks up the image of each mount that names one.
    pub(super) fn image_volumes(&self, config: &Config) -> Result<Vec<Found>, ContainerError> {
        let mut found = Vec::new();
        for (index, mount) in config.mounts.iter().enumerate() {
            let Some(wanted) = mount.image.as_ref().filter(|image| !image.image.is_empty()) else {
                continue;
            };
            let image = self.rooms.images.get(&wanted.image)?.ok_or_else(|| {
                volume_error(
                    index,
                    mount,
                    "the image is not on this node; pull it first".into(),
                )
            })?;
            let image = image.record;
            if image.artifact_type.is_some() && !self.settings.artifact_volumes {
                let problem = "it is an OCI artifact, and oci_artifact_mount_support is false";
                return Err(volume_error(index, mount, problem.into()));
            }
            let volume = ImageVolume {
                mount: index,
                image_id: image.id.clone(),
                reference: image.digests.first().unwrap_or(&image.id).clone(),
            };
            found.push(Found { volume, image });
        }
        Ok(found)
    }

    /// Mounts the images and puts what they show into `sources`, each at its mount's place.
    pub(super) fn mount_image_volumes(
        &self,
        record: &Record,
        volumes: &[Found],
        options: &RootOptions,
        sources: &mut [MountSource],
    ) -> Result<(), ContainerError> {
        for Found { volume, image } in volumes {
            let index = volume.mount;
            let (Some(mount), Some(source)) =
                (record.config.mounts.get(index), sources.get_mut(index))
            else {
                continue;
            };
            let place = self
                .rooms
                .store
                .mount_image_volume(record.id.as_str(), index, &image.layers, options)
                .map_err(|error| volume_error(index, mount, error.to_string()))?;
            source.path = match mount.image_sub_path.as_str() {
                "" => place,
                sub_path => in_root(&place, sub_path)
                    .map_err(|error| volume_error(index, mount, error.to_string()))?,
            };
        }
        Ok(())
    }

    /// Makes the volumes that the container's own image declares, and returns those that are to be
    /// mounted.
    pub(super) fn declared_volumes(
        &self,
        record: &Record,
        root: &Path,
        options: &RootOptions,
    ) -> Result<Vec<DeclaredVolume>, ContainerError> {
        let declared = &record.image.volumes;
        if declared.len() > MAX_DECLARED {
            return Err(ContainerError::Invalid {
                field: "the image's Volumes".to_owned(),
                problem: format!("{} paths, at most {MAX_DECLARED} are made", declared.len()),
            });
        }
        let mut bound = Vec::new();
        let owner = options.ids.as_ref().map(|ids| ids.outside(0, 0));
        for (number, path) in declared.iter().enumerate() {
            match self.settings.declared_volumes {
                DeclaredVolumes::Ignore => {}
                DeclaredVolumes::Mkdir => make_in_root(root, path, owner)?,
                DeclaredVolumes::Bind => bound.push(DeclaredVolume {
                    destination: path.clone(),
                    source: self
                        .rooms
                        .store
                        .make_volume(record.id.as_str(), number, options)?,
                }),
            }
        }
        Ok(bound)
    }
}

/// The path of what `sub_path` names in the image mounted at `root`: symbolic links in it lead to
/// places in the image, never out of it.
fn in_root(root: &Path, sub_path: &str) -> io::Result<PathBuf> {
    let place = File::open(root)?;
    let found = open_in_root(&place, Path::new(sub_path)).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("image_sub_path `{}`: {error}", sub_path.escape_debug()),
        )
    })?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

fn open_in_root(root: &File, path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Makes a directory in a root filesystem, with those above it, unless something is there. No
/// symbolic link of the image leads out of the root. They belong to `owner`, or to whom makes them.
fn make_in_root(root: &Path, path: &str, owner: Option<(u32, u32)>) -> Result<(), ContainerError> {
    let failed =
        |error: Errno| io_error("make the volume of the image at", path.as_ref())(error.into());
    let top = File::open(root).map_err(io_error("open the root filesystem", root))?;
    let mut parent = open_in_root(&top, Path::new("/")).map_err(failed)?;
    let mut above = PathBuf::from("/");
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else {
            continue;
        };
        above.push(name);
        parent = match open_in_root(&top, &above) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                let made = open_in_root(&top, &above).map_err(failed)?;
                give(&made, owner).map_err(failed)?;
                made
            }
            // A file on the way: the image is as it is.
            Err(Errno::NOTDIR) => return Ok(()),
            found => found.map_err(failed)?,
        };
    }
    Ok(())
}

fn give(made: &OwnedFd, owner: Option<(u32, u32)>) -> Result<(), Errno> {
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

fn volume_error(index: usize, mount: &Mount, problem: String) -> ContainerError {
    let image = mount.image.as_ref().map(|image| image.image.clone());
    ContainerError::ImageVolume {
        index,
        image: image.unwrap_or_default(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_stays_in_the_image_whatever_its_links_say() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("image");
        std::fs::create_dir_all(root.join("data/in")).unwrap();
        std::fs::write(scratch.path().join("secret"), "").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link("/data", "absolute");
        link("../../secret", "out");
        link("/proc/self/root/etc", "magic");
        let root = std::fs::canonicalize(&root).unwrap();
        for (sub_path, found) in [("data/in", "data/in"), ("absolute/in", "data/in")] {
            assert_eq!(in_root(&root, sub_path).unwrap(), root.join(found));
        }
        for bad in [
            "missing",
            "out",
            "magic",
            "../secret",
            "a\0b",
            &"x/".repeat(2048),
        ] {
            let error = in_root(&root, bad).expect_err(bad).to_string();
            assert!(error.contains("image_sub_path"), "{error}");
        }
    }

    #[test]
    fn a_declared_volume_is_made_in_the_root_and_nowhere_else() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        link("/real".as_ref(), "link");
        link(scratch.path(), "outside");
        make_in_root(&root, "/var/lib/data", None).unwrap();
        make_in_root(&root, "link/deep", None).unwrap();
        make_in_root(&root, "/file/below", None).unwrap();
        assert!(root.join("var/lib/data").is_dir());
        assert!(root.join("real/deep").is_dir());
        assert!(root.join("file").is_file());
        // The link's target is looked for in the root, where it is not.
        assert!(make_in_root(&root, "/outside/escaped", None).is_err());
        assert!(!scratch.path().join("escaped").exists());
    }
}
