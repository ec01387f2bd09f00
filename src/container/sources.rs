//! What the spec needs to know of the host's files: mount sources and device nodes. The log's
//! directory is made by the way.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::{ContainerError, Containers, Pod, Record};
use crate::spec;
use crate::spec::config::{ContainerConfig, Mount};
use crate::spec::inputs::{DeviceKind, DeviceNode, MountSource};
use crate::state::Stage;

/// Most device nodes that one directory of devices may stand for.
const MAX_DEVICE_NODES: usize = 1024;
/// How deep directories of devices are followed.
const MAX_DEVICE_DEPTH: usize = 8;
/// The mounts of the daemon's namespace: proc_pid_mountinfo(5).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Nodes below `/dev` that each container has of its own, and never the host's.
const OWN_NODES: [&str; 5] = [
    "/dev/pts",
    "/dev/shm",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/console",
];

impl Containers {
    /// What the mounts show of the host; it can be mounted for the pod's user namespace. A source
    /// may be on a file system that never answers, so it is looked at from outside, and so is the
    /// log's directory: the kubelet makes it, other clients do not.
    ///
    /// # Errors
    /// When a source cannot be, or a file system does not answer in time.
    pub(super) async fn mount_sources(
        &self,
        pod: &Pod,
        record: &Record,
        stage: &Stage,
    ) -> Result<Vec<MountSource>, ContainerError> {
        let logs = record.log_path.as_deref().and_then(Path::parent);
        if record.config.mounts.is_empty() && logs.is_none() {
            return Ok(Vec::new());
        }
        let mounts = record.config.mounts.clone();
        let reject = self.settings.absent_sources_to_reject.clone();
        let userns = pod.spec.userns.clone();
        let (looking, directory) = (stage.clone(), logs.map(Path::to_owned));
        let patience = self.settings.mount_source_timeout;
        let looked = self.outside.look(patience, move || {
            if let Some(directory) = directory {
                looking.waits_for(directory.display().to_string());
                let create = io_error("create the log directory", &directory);
                fs::create_dir_all(&directory).map_err(create)?;
            }
            let found = of_mounts(&mounts, &reject, &looking)?;
            if let Some(userns) = &userns {
                check_idmapped(&mounts, &found, userns)?;
            }
            Ok(found)
        });
        looked.await.map_err(|source| {
            let path = PathBuf::from(stage.waited_for());
            match logs == Some(&path) {
                true => ContainerError::DeadLogDirectory { path, source },
                false => ContainerError::DeadMountSource { path, source },
            }
        })?
    }
}

/// Finds the source of each mount: absolute, symbolic links resolved, created as a directory when
/// it is missing (as CRI-O and containerd do), unless it is one of `reject`. Says in `stage` which
/// one it is at.
fn of_mounts(
    mounts: &[Mount],
    reject: &[PathBuf],
    stage: &Stage,
) -> Result<Vec<MountSource>, ContainerError> {
    let table = match mounts {
        [] => Vec::new(),
        _ => fs::read(MOUNTS).map_err(io_error("read", MOUNTS.as_ref()))?,
    };
    mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| {
            let path = if mount.image.is_some() {
                PathBuf::new()
            } else {
                stage.waits_for(mount.host_path.clone());
                source(index, mount, reject)?
            };
            Ok(MountSource {
                peers: spec::peers(&table, &path),
                path,
            })
        })
        .collect()
}

fn source(index: usize, mount: &Mount, reject: &[PathBuf]) -> Result<PathBuf, ContainerError> {
    let path = Path::new(&mount.host_path);
    if !path.is_absolute() {
        return Err(ContainerError::Invalid {
            field: format!("config.mounts[{index}].host_path"),
            problem: format!(
                "`{}`, mounted at `{}`, is not an absolute path",
                mount.host_path, mount.container_path
            ),
        });
    }
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if reject.iter().any(|rejected| rejected == path) {
                return Err(io_error("find the mount source", path)(error));
            }
            fs::create_dir_all(path).map_err(io_error("create the mount source", path))?;
            fs::canonicalize(path)
        }
        found => found,
    }
    .map_err(io_error("find the mount source", path))
}

/// Whether what is to be mounted with mapped ids can be: the OCI runtime would say no more than
/// "invalid argument" of a file system that cannot. `userns`: the pod's, `sources`: of
/// [`of_mounts`].
fn check_idmapped(
    mounts: &[Mount],
    sources: &[MountSource],
    userns: &Path,
) -> Result<(), ContainerError> {
    // An image volume is made for the pod's ids from the beginning.
    let mapped = |(_, (mount, _)): &(usize, (&Mount, &MountSource))| {
        !mount.uid_mappings.is_empty() && !mount.host_path.is_empty()
    };
    let all = mounts.iter().zip(sources).enumerate().filter(mapped);
    let mut opened = None;
    for (index, (_, source)) in all {
        let userns = match &opened {
            Some(file) => file,
            None => {
                let file = fs::File::open(userns).map_err(io_error("open", userns))?;
                opened.insert(file)
            }
        };
        // Attached nowhere, it goes again at once.
        if let Err(error) = crate::sys::mounts::idmapped(&source.path, userns) {
            return Err(ContainerError::Invalid {
                field: format!("config.mounts[{index}].uidMappings"),
                problem: format!(
                    "{} cannot be mounted for the pod's user namespace: {error}; its file system \
                     has to support idmapped mounts (mount_setattr(2): ext4, xfs and btrfs do, \
                     tmpfs from Linux 6.3 on, NFS does not)",
                    source.path.display()
                ),
            });
        }
    }
    Ok(())
}

/// Finds the nodes that each device of the configuration stands for: the node itself, or all nodes
/// below a directory.
pub(super) fn of_devices(config: &ContainerConfig) -> Result<Vec<Vec<DeviceNode>>, ContainerError> {
    let nodes_of =
        |device: &crate::spec::config::Device| nodes_at(&device.host_path, &device.container_path);
    config.devices.iter().map(nodes_of).collect()
}

/// The node at a path of the host, or all below it, as they are to appear in the container.
pub(super) fn nodes_at(host: &str, container: &str) -> Result<Vec<DeviceNode>, ContainerError> {
    let found = fs::canonicalize(host).map_err(io_error("find the device", host.as_ref()))?;
    let mut nodes = Vec::new();
    collect(&found, Path::new(container), 0, &mut nodes)?;
    if nodes.is_empty() {
        return Err(ContainerError::Invalid {
            field: "config.devices.host_path".to_owned(),
            problem: format!("`{host}` is not a device and holds none"),
        });
    }
    Ok(nodes)
}

/// All device nodes of the host that a privileged container gets.
pub(super) fn of_host() -> Result<Vec<DeviceNode>, ContainerError> {
    let mut nodes = Vec::new();
    collect("/dev".as_ref(), "/dev".as_ref(), 0, &mut nodes)?;
    Ok(nodes)
}

fn collect(
    host: &Path,
    container: &Path,
    depth: usize,
    nodes: &mut Vec<DeviceNode>,
) -> Result<(), ContainerError> {
    let facts = match fs::symlink_metadata(host) {
        // A node that goes away while its directory is read is not there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(()),
        facts => facts.map_err(io_error("look at the device", host))?,
    };
    let kind = facts.file_type();
    if kind.is_dir() {
        let inside_own = OWN_NODES.iter().any(|own| container == Path::new(own));
        if depth >= MAX_DEVICE_DEPTH || inside_own {
            return Ok(());
        }
        let list = io_error("list the devices in", host);
        for entry in fs::read_dir(host).map_err(list)? {
            let name = entry
                .map_err(io_error("list the devices in", host))?
                .file_name();
            collect(&host.join(&name), &container.join(&name), depth + 1, nodes)?;
        }
    } else if (kind.is_char_device() || kind.is_block_device())
        && !OWN_NODES.iter().any(|own| container == Path::new(own))
    {
        if nodes.len() == MAX_DEVICE_NODES {
            return Err(ContainerError::Invalid {
                field: "config.devices.host_path".to_owned(),
                problem: format!(
                    "{} holds more than {MAX_DEVICE_NODES} devices",
                    host.display()
                ),
            });
        }
        // Device numbers have 12 and 20 bits in Linux.
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        nodes.push(DeviceNode {
            path: container.to_owned(),
            kind: if kind.is_block_device() {
                DeviceKind::Block
            } else {
                DeviceKind::Char
            },
            major: number(major(facts.rdev())),
            minor: number(minor(facts.rdev())),
            mode: facts.mode() & 0o7777,
            uid: facts.uid(),
            gid: facts.gid(),
        });
    }
    Ok(())
}

pub(super) fn io_error(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::Io { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(host_path: &str) -> Mount {
        Mount {
            host_path: host_path.into(),
            container_path: "/data".into(),
            ..Mount::default()
        }
    }

    fn stage() -> Stage {
        Stage::begin("test")
    }

    #[test]
    fn a_source_is_resolved_and_made_when_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::os::unix::fs::symlink(path("target"), path("link")).unwrap();
        fs::write(path("target"), "").unwrap();
        let mounts = [mount(&path("link")), mount(&path("new/dir"))];
        let found = of_mounts(&mounts, &[], &stage()).unwrap();
        let real = fs::canonicalize(directory.path()).unwrap();
        assert_eq!(found[0].path, real.join("target"));
        assert!(found[1].path.is_dir());
    }

    #[test]
    fn a_relative_source_and_a_rejected_missing_one_are_errors_that_name_them() {
        let error = of_mounts(&[mount("relative/path")], &[], &stage())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("relative/path") && error.contains("mounts[0]"),
            "{error}"
        );
        let missing = "/nonexistent-source/x";
        let error = of_mounts(&[mount(missing)], &[missing.into()], &stage())
            .unwrap_err()
            .to_string();
        assert!(error.contains(missing), "{error}");
        assert!(!Path::new(missing).exists());
    }

    #[test]
    fn a_device_and_a_directory_of_devices_are_found_and_a_file_is_none() {
        let config = |host: &str, container: &str| ContainerConfig {
            devices: vec![crate::spec::config::Device {
                host_path: host.into(),
                container_path: container.into(),
                permissions: "rw".into(),
            }],
            ..ContainerConfig::default()
        };
        let null = of_devices(&config("/dev/null", "/dev/nothing")).unwrap();
        assert_eq!((null[0][0].major, null[0][0].minor), (1, 3));
        assert_eq!(null[0][0].path, Path::new("/dev/nothing"));
        assert!(
            of_host()
                .unwrap()
                .iter()
                .any(|node| node.path == Path::new("/dev/null"))
        );
        assert!(of_devices(&config("/etc/passwd", "/dev/x")).is_err());
        assert!(of_devices(&config("/dev/nonexistent", "/dev/x")).is_err());
    }
}
