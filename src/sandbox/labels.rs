//! SELinux labels of a pod: chosen when it is made, recorded, free again when it is removed.

use std::path::Path;

use super::record::PodConfig;
use super::{Record, SandboxError, Sandboxes, files};
use crate::security::selinux::{self, Labels};
use crate::spec;
use crate::spec::config::NamespaceMode;
use crate::state::Id;

impl Sandboxes {
    /// The labels of a new pod; `None` where the node does not separate pods by them. They are its
    /// own until [`release_labels`](Self::release_labels).
    ///
    /// # Errors
    /// When a part that is asked for cannot be, or the policy does not know the label.
    pub(super) fn choose_labels(
        &self,
        id: &Id,
        config: &PodConfig,
    ) -> Result<Option<Labels>, SandboxError> {
        let Some(selinux) = &self.settings.selinux else {
            return Ok(None);
        };
        let wanted = spec::selinux_options(config.security.selinux.as_ref());
        let labels = selinux.pod(id.as_str(), &wanted)?;
        let on_host_network = config.security.namespaces.network == NamespaceMode::Node;
        let confined = !(on_host_network && self.settings.host_network_without_selinux);
        Ok(Some(if confined {
            labels
        } else {
            labels.unconfined()
        }))
    }

    /// Notes the labels of a pod of an earlier daemon.
    pub(super) fn reserve_labels(&self, record: &Record) {
        if let (Some(selinux), Some(labels)) = (&self.settings.selinux, &record.selinux) {
            selinux.reserve(record.id.as_str(), labels);
        }
    }

    /// Gives the labels of a pod back that is gone.
    pub(super) fn release_labels(&self, id: &Id) {
        if let Some(selinux) = &self.settings.selinux {
            selinux.release(id.as_str());
        }
    }
}

/// Labels the files that the pod's containers mount.
pub(super) fn label_files(directory: &Path, labels: &Labels) -> Result<(), SandboxError> {
    for name in [files::RESOLV_CONF, files::HOSTNAME] {
        selinux::set(&directory.join(name), &labels.mount)?;
    }
    Ok(())
}
