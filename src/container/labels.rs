//! Security modules of the node: a container's SELinux labels and its AppArmor profile, seen to
//! before the container is made.

use super::{Config, ContainerError, Containers, Pod};
use crate::security::selinux::{self, Labels};
use crate::spec;
use crate::spec::inputs::{MountSource, OwnFile};

impl Containers {
    /// The labels of a container in this pod; `None` where the node does not separate pods.
    ///
    /// # Errors
    /// When a part that is asked for cannot be, or the policy does not know the label.
    pub(super) fn labels(
        &self,
        pod: &Pod,
        config: &Config,
    ) -> Result<Option<Labels>, ContainerError> {
        let (Some(selinux), Some(of_pod)) = (&self.settings.selinux, &pod.selinux) else {
            return Ok(None);
        };
        let labels = spec::selinux_labels(of_pod, &config.security, &pod.spec)?;
        selinux.check(&labels)?;
        Ok(Some(labels))
    }

    /// Sees that a profile that is asked for by name is loaded. On a node without AppArmor it is
    /// passed over, as by CRI-O.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check_apparmor(&self, config: &Config) -> Result<(), ContainerError> {
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

/// Gives the container's label to what it mounts: volumes for which the request asks for it, and
/// the files made for it. Blocks for as long as volumes are large.
///
/// # Errors
/// When a volume is the node's own, or a file cannot be labelled.
pub(super) fn label_sources(
    labels: &Labels,
    config: &Config,
    sources: &[MountSource],
    own_files: &[OwnFile],
) -> Result<(), ContainerError> {
    for file in own_files {
        selinux::relabel(&file.source, &labels.mount)?;
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
