//! The mounts that the kubelet asks for.

use std::path::Path;

use super::super::config::{
    ContainerConfig, ImageSpec, Mount as Wanted, NamespaceOptions, Propagation,
};
use super::super::error::SpecError;
use super::super::inputs::{Inputs, MountSource, Peers, Settings};
use super::super::paths;
use super::Mount;

/// Options that a request may add (CRI 0.37).
const EXTRA_OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// The request's mounts and what they need of the root.
pub(super) struct Requested {
    pub(super) mounts: Vec<Mount>,
    pub(super) root_propagation: Option<&'static str>,
}

/// Everything about the request's mounts that can be wrong by their text. To be called before
/// anything is made on the host: a missing source is created, and should not be for a request
/// that is refused.
pub fn check_mounts(
    config: &ContainerConfig,
    pod: &NamespaceOptions,
    settings: &Settings,
) -> Result<(), SpecError> {
    let mapped = pod.mappings().is_some();
    config
        .mounts
        .iter()
        .enumerate()
        .try_for_each(|(index, mount)| {
            check_ids(index, mount, mapped)?;
            check(index, mount, settings)
        })
}

/// Ids of an idmapped mount: both or neither, and only in a pod with a user namespace. Which ranges
/// they are the OCI runtime and the kernel judge.
fn check_ids(index: usize, mount: &Wanted, mapped: bool) -> Result<(), SpecError> {
    let field = format!("mounts[{index}].uidMappings and gidMappings");
    match (mount.uid_mappings.len(), mount.gid_mappings.len()) {
        (0, 0) => Ok(()),
        (0, _) | (_, 0) => Err(SpecError::invalid(field, "one is set without the other")),
        _ if !mapped => {
            let problem = "the pod has no user namespace (userns_options)";
            Err(SpecError::invalid(field, problem))
        }
        (1, 1) => Ok(()),
        _ => Err(SpecError::invalid(field, "more than one range")),
    }
}

fn check(index: usize, mount: &Wanted, settings: &Settings) -> Result<(), SpecError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if paths::clean(&field("container_path"), &mount.container_path)? == "/" {
        let problem = "a mount cannot take the place of the root filesystem";
        return Err(SpecError::invalid(field("container_path"), problem));
    }
    check_options(&field("mount_options"), mount)?;
    if is_image(mount) {
        check_image(index, mount)?;
        return check_recursive(index, mount, settings);
    }
    if !mount.image_sub_path.is_empty() {
        let problem = "is given without an image";
        return Err(SpecError::invalid(field("image_sub_path"), problem));
    }
    paths::check(&field("host_path"), &mount.host_path)?;
    if !mount.host_path.starts_with('/') {
        return Err(SpecError::RelativeHostPath {
            index,
            host_path: mount.host_path.clone(),
            container_path: mount.container_path.clone(),
        });
    }
    check_recursive(index, mount, settings)
}

fn check_options(field: &str, mount: &Wanted) -> Result<(), SpecError> {
    let odd = |option: &&String| !EXTRA_OPTIONS.contains(&option.as_str());
    match mount.mount_options.iter().find(odd) {
        None => Ok(()),
        Some(odd) => {
            let problem = format!("`{odd}` is none of {}", EXTRA_OPTIONS.join(", "));
            Err(SpecError::invalid(field, problem))
        }
    }
}

fn is_image(mount: &Wanted) -> bool {
    let named = |image: &ImageSpec| !image.image.is_empty();
    mount.image.as_ref().is_some_and(named)
}

/// KEP-4639: an image is mounted read-only and whole, or a path in it.
fn check_image(index: usize, mount: &Wanted) -> Result<(), SpecError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if !mount.host_path.is_empty() {
        let problem = "is given together with an image";
        return Err(SpecError::invalid(field("host_path"), problem));
    }
    if !mount.readonly {
        let problem = "an image is mounted read-only: set readonly";
        return Err(SpecError::invalid(field("readonly"), problem));
    }
    if mount.propagation != Propagation::Private {
        let problem = "an image has private propagation";
        return Err(SpecError::invalid(field("propagation"), problem));
    }
    if !mount.image_sub_path.is_empty() {
        let name = field("image_sub_path");
        paths::check(&name, &mount.image_sub_path)?;
        let climbs = mount.image_sub_path.split('/').any(|part| part == "..");
        if climbs || mount.image_sub_path.starts_with('/') {
            let problem = "must be relative, and without `..`";
            return Err(SpecError::invalid(name, problem));
        }
    }
    Ok(())
}

fn check_recursive(index: usize, mount: &Wanted, settings: &Settings) -> Result<(), SpecError> {
    if !mount.recursive_read_only {
        return Ok(());
    }
    let field = format!("mounts[{index}].recursive_read_only");
    if !mount.readonly {
        return Err(SpecError::invalid(field, "needs readonly"));
    }
    if mount.propagation != Propagation::Private {
        return Err(SpecError::invalid(field, "needs private propagation"));
    }
    if !settings.recursive_read_only {
        return Err(SpecError::RecursiveReadOnlyUnsupported {
            index,
            container_path: mount.container_path.clone(),
        });
    }
    Ok(())
}

/// Needs `check_mounts` before.
pub(super) fn requested(inputs: &Inputs) -> Result<Requested, SpecError> {
    let wanted = &inputs.config.mounts;
    if wanted.len() != inputs.mount_sources.len() {
        let problem = format!(
            "{} sources for {}",
            inputs.mount_sources.len(),
            wanted.len()
        );
        return Err(SpecError::invalid("mounts", problem));
    }
    let mut mounts: Vec<Mount> = Vec::new();
    let mut root_propagation = None;
    for (index, (mount, source)) in wanted.iter().zip(inputs.mount_sources).enumerate() {
        let propagation = propagation(index, mount, source, inputs.settings)?;
        root_propagation = match propagation {
            Propagation::Bidirectional => Some("rshared"),
            Propagation::HostToContainer => root_propagation.or(Some("rslave")),
            Propagation::Private => root_propagation,
        };
        let mount = bind(index, mount, &source.path, propagation)?;
        // made one after the other, the later one would hide the earlier
        mounts.retain(|earlier| earlier.destination != mount.destination);
        mounts.push(mount);
    }
    Ok(Requested {
        mounts,
        root_propagation,
    })
}

/// The propagation, when the source can give it.
fn propagation(
    index: usize,
    mount: &Wanted,
    source: &MountSource,
    settings: &Settings,
) -> Result<Propagation, SpecError> {
    let error = |needed| {
        let host_path = source.path.clone();
        Err(SpecError::NotPropagating {
            index,
            host_path,
            needed,
        })
    };
    match mount.propagation {
        Propagation::Bidirectional if source.peers != Peers::Shared => error("shared"),
        Propagation::HostToContainer if source.peers == Peers::Private => error("slave"),
        // a private copy of the storage's mounts would keep each container's root busy for as
        // long as this container runs
        Propagation::Private
            if source.peers != Peers::Private
                && !mount.recursive_read_only
                && settings
                    .storage_roots
                    .iter()
                    .any(|root| root.starts_with(&source.path)) =>
        {
            Ok(Propagation::HostToContainer)
        }
        other => Ok(other),
    }
}

fn bind(
    index: usize,
    mount: &Wanted,
    source: &Path,
    propagation: Propagation,
) -> Result<Mount, SpecError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let access = match (mount.readonly, mount.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    let propagation = match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let destination = paths::clean(&field("container_path"), &mount.container_path)?;
    let mut bind = Mount::new(&destination, "bind", &["rbind", propagation, access]);
    bind.source = source
        .to_str()
        .ok_or_else(|| SpecError::invalid(field("host_path"), "resolves to a path not in UTF-8"))?
        .to_owned();
    if is_image(mount) {
        bind.options.extend(["nosuid", "nodev"].map(str::to_owned));
    }
    bind.options.extend(mount.mount_options.iter().cloned());
    // an image volume shows the pod's ids of itself
    if !mount.uid_mappings.is_empty() && !is_image(mount) {
        // of this mount alone: what is mounted below may be a file system that cannot
        bind.options.push("idmap".to_owned());
        bind.ids = Some([mount.uid_mappings.clone(), mount.gid_mappings.clone()]);
    }
    Ok(bind)
}
