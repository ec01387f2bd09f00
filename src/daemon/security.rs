//! What the node's security modules and device specifications give to containers: opened once, at
//! the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DaemonError;
use crate::cdi;
use crate::config::{self, Config, Loaded};
use crate::container::{NodeDevice, NodeDevices, NodeFiles, Profiles};
use crate::hooks;
use crate::security::apparmor::{self, AppArmor};
use crate::security::seccomp::{Profile, SeccompError, Target};
use crate::security::selinux::{self, Selinux};
use crate::spec::inputs::Host;

/// AppArmor and the profile of containers that ask for none; neither where the node has it off.
///
/// # Errors
/// When the configured profile is not there.
pub(super) fn apparmor(
    config: &Config,
    host: &Host,
) -> Result<(Option<AppArmor>, Option<String>), DaemonError> {
    if !host.apparmor {
        return Ok((None, None));
    }
    let node = AppArmor::at(Path::new(apparmor::KERNEL));
    let profile = node.prepare(&config.runtime.apparmor_profile)?;
    Ok((Some(node), profile))
}

/// The profiles that the configuration gives to containers. Blocks.
///
/// # Errors
/// When one cannot be read.
pub(super) fn profiles(
    config: &Config,
    host: &Host,
    apparmor: Option<String>,
) -> Result<Profiles, SeccompError> {
    let runtime = &config.runtime;
    let target = Target::native(host.kernel);
    let read = |path: &PathBuf| Profile::load(path, target).map(Arc::new);
    let mut handler_seccomp = BTreeMap::new();
    for (name, handler) in &runtime.runtimes {
        if let Some(path) = handler.seccomp_profile.as_ref().filter(|_| host.seccomp) {
            handler_seccomp.insert(name.clone(), read(path)?);
        }
    }
    let privileged = runtime.privileged_seccomp_profile.as_ref();
    Ok(Profiles {
        seccomp: match &runtime.seccomp_profile {
            _ if !host.seccomp => None,
            Some(path) => Some(read(path)?),
            None => Some(Arc::new(Profile::embedded(target)?)),
        },
        privileged_seccomp: privileged.map(read).transpose()?,
        handler_seccomp,
        apparmor,
    })
}

/// SELinux, where the configuration wants it and the node has it.
///
/// # Errors
/// When the node's policy knows no containers.
pub(super) fn selinux(config: &Config) -> Result<Option<Arc<Selinux>>, DaemonError> {
    if !config.runtime.selinux {
        return Ok(None);
    }
    let opened = Selinux::open(Path::new(selinux::POLICIES), Path::new(selinux::KERNEL))?;
    if opened.is_none() {
        tracing::warn!("selinux = true has no effect: SELinux is off on this node");
    }
    Ok(opened.map(Arc::new))
}

pub(super) fn cdi(config: &Config) -> cdi::Registry {
    cdi::Registry::new(config.runtime.cdi_spec_dirs.clone())
}

/// The node's hook files. What is wrong with one is in the log from the start on, not only when a
/// container is made.
pub(super) fn hooks(config: &Config) -> hooks::Directories {
    let directories = hooks::Directories::new(config.runtime.hooks_dir.clone());
    drop(directories.problems());
    directories
}

pub(super) fn devices(config: &Config) -> NodeDevices {
    let device = |device: &config::Device| NodeDevice {
        host: device.host.clone(),
        container: device.container.clone(),
        access: device.access.clone(),
    };
    NodeDevices {
        for_all: config
            .runtime
            .additional_devices
            .iter()
            .map(device)
            .collect(),
        by_annotation: config.runtime.allowed_devices.clone(),
    }
}

/// Files of the node for every container.
///
/// # Errors
/// When one that the configuration names cannot be read.
pub(super) fn files(loaded: &Loaded) -> Result<NodeFiles, DaemonError> {
    Ok(NodeFiles {
        localtime: config::localtime(loaded)?,
        subscriptions: config::default_mounts(loaded)?,
    })
}
