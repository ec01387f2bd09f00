//! What annotations make of a container: those of its pod as it sees them, and what the workload
//! that they put the pod into gives it.

use std::collections::BTreeMap;

use super::{Config, ContainerError, Containers, Pod};
use crate::runtime::Handler;
use crate::spec::{self, Cpu, SpecError, Workload};

impl Containers {
    /// Fills in what the pod's annotations say about a container that is to be made.
    ///
    /// # Errors
    /// When one cannot be understood.
    pub(super) fn heed_annotations(
        &self,
        pod: &mut Pod,
        config: &mut Config,
    ) -> Result<(), ContainerError> {
        pod.spec.allowed_annotations = self.allowed_annotations(&pod.annotations, &pod.handler);
        for (annotation, why) in
            spec::idle_annotations(&config.annotations, &pod.spec.allowed_annotations)
        {
            tracing::warn!(
                pod = %pod.name,
                container = config.name,
                annotation,
                "the annotation has no effect: {why}"
            );
        }
        pod.spec.annotations = spec::effective_annotations(
            &pod.annotations,
            &pod.handler.default_annotations,
            &pod.spec.allowed_annotations,
            &config.name,
        );
        let cpu = self.workload_cpu(&pod.annotations, &pod.handler, &config.name)?;
        if cpu != Cpu::default() {
            cpu.apply(config.resources.get_or_insert_default());
        }
        // Refused before anything is made.
        spec::umask(&pod.spec.annotations)?;
        let unified = spec::unified(&pod.spec.annotations, &config.name)?;
        if !unified.is_empty() {
            let resources = config.resources.get_or_insert_default();
            resources.unified.extend(unified);
        }
        Ok(())
    }

    /// What the author of a pod may ask for by annotations, as prefixes.
    pub fn allowed_annotations(
        &self,
        of_pod: &BTreeMap<String, String>,
        handler: &Handler,
    ) -> Vec<String> {
        let mut allowed = handler.allowed_annotations.clone();
        if let Some(workload) = self.workload(of_pod, handler) {
            allowed.extend_from_slice(&workload.allowed_annotations);
        }
        allowed
    }

    /// How much of the processors the workload of a pod gives its container of this name
    /// ([`spec::PAUSE`]: its pause process); nothing where the pod is in none.
    ///
    /// # Errors
    /// When the annotation about it cannot be understood.
    pub fn workload_cpu(
        &self,
        of_pod: &BTreeMap<String, String>,
        handler: &Handler,
        name: &str,
    ) -> Result<Cpu, SpecError> {
        match self.workload(of_pod, handler) {
            Some(workload) => workload.cpu(&[of_pod, &handler.default_annotations], name),
            None => Ok(Cpu::default()),
        }
    }

    fn workload(&self, of_pod: &BTreeMap<String, String>, handler: &Handler) -> Option<&Workload> {
        spec::workload(
            &self.settings.workloads,
            &[of_pod, &handler.default_annotations],
        )
    }
}
