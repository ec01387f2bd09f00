//! What the node's security modules, device specifications and configuration make of a container:
//! found out before anything is made for it, and given to its files afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::runtime::Hook;

use super::{Config, ContainerError, Containers, Pod};
use crate::cdi::{self, Edits};
use crate::hooks::{HookStep, Scene};
use crate::security::apparmor;
use crate::security::selinux::{self, Labels};
use crate::spec::inputs::{DeclaredVolume, DeviceNode, Image, MountSource, OwnFile};
use crate::spec::{self, ApparmorProfile};
use crate::state::Stage;

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
            &pod.spec.allowed_annotations,
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

    /// Sees that the AppArmor profile of a container is loaded. On a node without AppArmor one that
    /// is asked for is passed over, as by CRI-O.
    fn check_apparmor(&self, config: &Config) -> Result<(), ContainerError> {
        let profile = spec::apparmor_profile(&config.security)?;
        let Some(node) = &self.settings.apparmor else {
            if let ApparmorProfile::Node(profile) = profile {
                tracing::warn!(
                    container = config.name,
                    profile,
                    "AppArmor profile ignored: AppArmor is off on this node"
                );
            }
            return Ok(());
        };
        match (profile, &self.profiles.load().apparmor) {
            (ApparmorProfile::Node(name), _) => node.ensure(spec::APPARMOR_FIELD, &name)?,
            (ApparmorProfile::Default, Some(name)) => node.ensure(apparmor::KEY, name)?,
            (ApparmorProfile::Default, None) | (ApparmorProfile::Unconfined, _) => {}
        }
        Ok(())
    }
}

impl Given {
    /// How the root is mounted: labelled as a whole, so that no file of a layer has to be.
    pub(super) fn mount_label(&self) -> Option<String> {
        self.labels.as_ref().map(|labels| labels.mount.clone())
    }

    /// Gives the container's label to the files made for it: those of its own and the volumes that
    /// its image declares.
    ///
    /// # Errors
    /// When a file cannot be labelled.
    pub(super) fn label_own(
        &self,
        declared: &[DeclaredVolume],
        own_files: &[OwnFile],
    ) -> Result<(), ContainerError> {
        let Some(labels) = &self.labels else {
            return Ok(());
        };
        let own = own_files.iter().map(|file| &file.source);
        for path in own.chain(declared.iter().map(|volume| &volume.source)) {
            selinux::relabel(path, &labels.mount, false, &AtomicU64::new(0))?;
        }
        Ok(())
    }

    /// The volumes for which the request asks for the container's label.
    ///
    /// # Errors
    /// When one is the node's own.
    pub(super) fn volumes_to_label(
        &self,
        pod: &Pod,
        config: &Config,
        sources: &[MountSource],
    ) -> Result<Option<ToLabel>, ContainerError> {
        let Some(labels) = self.labels.as_ref().filter(|labels| labels.relabels()) else {
            return Ok(None);
        };
        let mut volumes = Vec::new();
        for (index, (mount, source)) in config.mounts.iter().zip(sources).enumerate() {
            if mount.selinux_relabel && mount.image.is_none() {
                selinux::check_relabel(index, &source.path)?;
                volumes.push(source.path.clone());
            }
        }
        let label = labels.mount.clone();
        Ok((!volumes.is_empty()).then_some(ToLabel {
            label,
            volumes,
            trusts_top: spec::skips_labelled(&pod.spec.annotations),
        }))
    }
}

/// Volumes of the host that a container's label is asked for.
#[derive(Debug)]
pub(super) struct ToLabel {
    label: String,
    volumes: Vec<PathBuf>,
    /// Whether a volume is taken for labelled when its top directory is.
    trusts_top: bool,
}

impl Containers {
    /// Labels volumes, from outside: that lasts for as long as they are large, and a file system
    /// may never answer.
    ///
    /// # Errors
    /// When a file cannot be labelled, or a file system does not answer in time.
    pub(super) async fn label_volumes(
        &self,
        wanted: ToLabel,
        stage: &Stage,
    ) -> Result<(), ContainerError> {
        let progress = Arc::new(AtomicU64::new(0));
        let (watched, looking) = (Arc::clone(&progress), stage.clone());
        let walk = move || {
            let ToLabel {
                label,
                volumes,
                trusts_top,
            } = wanted;
            for path in &volumes {
                looking.waits_for(path.display().to_string());
                let done = selinux::relabel(path, &label, trusts_top, &progress)?;
                tracing::debug!(path = %path.display(), ?done, "volume labelled");
            }
            Ok(())
        };
        let patience = self.settings.mount_source_timeout;
        let done = move || watched.load(Ordering::Relaxed);
        let labelled = self.outside.work(patience, done, walk).await;
        labelled.map_err(|source| ContainerError::DeadMountSource {
            path: stage.waited_for().into(),
            source,
        })?
    }
}
