//! What the node's security modules, device specifications and configuration make of a container:
//! found out before anything is made for it, and given to its files afterwards.

use oci_spec::runtime::Hook;

use super::{Config, ContainerError, Containers, Pod};
use crate::cdi::{self, Edits};
use crate::hooks::{HookStep, Scene};
use crate::security::selinux::{self, Labels};
use crate::spec;
use crate::spec::inputs::{DeclaredVolume, DeviceNode, Image, MountSource, OwnFile};

/// What the node gives a container.
pub(super) struct Given {
    /// Device nodes by the configuration and by annotation.
    pub(super) devices: Vec<(DeviceNode, String)>,
    /// The hooks that are for it.
    pub(super) hooks: Vec<(HookStep, Hook)>,
    /// What its CDI devices change.
    pub(super) cdi: Edits,
    /// Its SELinux labels, where the node separates pods by them.
    pub(super) labels: Option<Labels>,
}

impl Containers {
    /// Finds out what the node gives a container of this pod. Blocks.
    ///
    /// # Errors
    /// When a device, label or profile that is asked for is not to be had.
    pub(super) fn given(
        &self,
        pod: &Pod,
        config: &Config,
        image: &Image,
    ) -> Result<Given, ContainerError> {
        self.check_apparmor(config)?;
        let cdi_devices = cdi::requested(&config.cdi_devices, &config.annotations)?;
        Ok(Given {
            devices: self.settings.devices.of(&pod.spec.annotations)?,
            hooks: self.hooks(pod, config, image)?,
            cdi: self.settings.cdi.resolve(&cdi_devices)?,
            labels: self.labels(pod, config)?,
        })
    }

    /// The hooks that are for a container, by what it and its pod say.
    fn hooks(
        &self,
        pod: &Pod,
        config: &Config,
        image: &Image,
    ) -> Result<Vec<(HookStep, Hook)>, ContainerError> {
        // what both say the container says, as in its specification
        let annotations = spec::effective_annotations(
            &config.annotations,
            &pod.spec.annotations,
            &self.allowed_annotations(pod),
            &config.name,
        );
        let args = spec::args(config, image)?;
        Ok(self.settings.hooks.of(&Scene {
            annotations: &annotations,
            command: args.first().map_or("", String::as_str),
            has_bind_mounts: !config.mounts.is_empty(),
        })?)
    }

    fn labels(&self, pod: &Pod, config: &Config) -> Result<Option<Labels>, ContainerError> {
        let (Some(selinux), Some(of_pod)) = (&self.settings.selinux, &pod.selinux) else {
            return Ok(None);
        };
        let labels = spec::selinux_labels(of_pod, &config.security, &pod.spec)?;
        selinux.check(&labels)?;
        Ok(Some(labels))
    }

    /// Sees that a profile that is asked for by name is loaded. On a node without AppArmor it is
    /// passed over, as by CRI-O.
    fn check_apparmor(&self, config: &Config) -> Result<(), ContainerError> {
        let Some(profile) = spec::localhost_apparmor(&config.security)? else {
            return Ok(());
        };
        match &self.settings.apparmor {
            Some(node) => Ok(node.check(spec::APPARMOR_FIELD, &profile)?),
            None => {
                tracing::warn!(
                    container = config.name,
                    profile,
                    "AppArmor profile ignored: AppArmor is off on this node"
                );
                Ok(())
            }
        }
    }
}

impl Given {
    /// How the root is mounted: labelled as a whole, so that no file of a layer has to be.
    pub(super) fn mount_label(&self) -> Option<String> {
        self.labels.as_ref().map(|labels| labels.mount.clone())
    }

    /// Gives the container's label to what it mounts: volumes for which the request asks for it,
    /// those its image declares, and the files made for it. Blocks for as long as they are large.
    ///
    /// # Errors
    /// When a volume is the node's own, or a file cannot be labelled.
    pub(super) fn label(
        &self,
        config: &Config,
        sources: &[MountSource],
        declared: &[DeclaredVolume],
        own_files: &[OwnFile],
    ) -> Result<(), ContainerError> {
        let Some(labels) = &self.labels else {
            return Ok(());
        };
        let own = own_files.iter().map(|file| &file.source);
        for path in own.chain(declared.iter().map(|volume| &volume.source)) {
            selinux::relabel(path, &labels.mount)?;
        }
        if !labels.relabels() {
            return Ok(());
        }
        for (index, (mount, source)) in config.mounts.iter().zip(sources).enumerate() {
            if mount.selinux_relabel && mount.image.is_none() {
                selinux::check_relabel(index, &source.path)?;
                let done = selinux::relabel(&source.path, &labels.mount)?;
                tracing::debug!(path = %source.path.display(), ?done, "volume labelled");
            }
        }
        Ok(())
    }
}
