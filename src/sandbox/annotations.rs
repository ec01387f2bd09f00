//! What a pod's annotations ask for that is done for the pod as a whole.

use super::record::PodConfig;
use super::{SandboxError, Sandboxes};
use crate::runtime::Handler;
use crate::spec;

impl Sandboxes {
    /// How many bytes the pod's annotations ask for as shared memory; `None`: the usual number. Tells of
    /// those that are allowed and have no effect, once for each pod.
    ///
    /// # Errors
    /// When one cannot be understood, or asks for a user namespace, without which the pod would run as
    /// the node's root.
    pub(super) fn heed_annotations(
        &self,
        config: &PodConfig,
        handler: &Handler,
    ) -> Result<Option<u64>, SandboxError> {
        let (own, containers) = (&config.annotations, &self.rooms.containers);
        let allowed = containers.allowed_annotations(own, handler);
        for (annotation, why) in spec::idle_annotations(own, &allowed) {
            tracing::warn!(
                pod = %config.name,
                annotation,
                "the annotation has no effect: {why}"
            );
        }
        let seen = spec::effective_annotations(own, &handler.default_annotations, &allowed, "");
        if config.security.namespaces.mappings().is_none() {
            spec::check_userns(&seen)?;
        }
        Ok(spec::shm_bytes(&seen)?)
    }
}
