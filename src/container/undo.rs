//! Undo: release what a container has in the kernel and on disk. Every step works when there is
//! nothing to release, so it serves the ended, the half made and what a crash left alike.

use std::sync::Arc;

use super::{ContainerError, Containers, Record};
use crate::sys::blocking;

impl Containers {
    /// Undoes a container that was not made to the end: kills what runs, releases everything,
    /// forgets the record.
    pub(super) async fn undo(&self, record: &Record) -> Result<(), ContainerError> {
        let handler = self.rooms.handlers.get(&record.handler)?;
        handler.delete(record.id.as_str(), true).await?;
        self.release_kernel_objects(record).await?;
        self.forget(record).await
    }

    /// Unmounts the root and removes the cgroups.
    pub(super) async fn release_kernel_objects(
        &self,
        record: &Record,
    ) -> Result<(), ContainerError> {
        let (store, cgroups) = (self.rooms.store.clone(), Arc::clone(&self.rooms.cgroups));
        let (id, parent) = (record.id.clone(), record.cgroup_parent.clone());
        blocking(move || {
            // All are tried; the first error is told.
            let unmounted = store.unmount_root(id.as_str());
            let container = cgroups.remove_container(&parent, id.as_str());
            let monitor = cgroups.remove_monitor(&parent, id.as_str());
            unmounted?;
            container?;
            Ok(monitor?)
        })
        .await
    }

    /// Removes the writable layer and, last, the record with the bundle.
    pub(super) async fn forget(&self, record: &Record) -> Result<(), ContainerError> {
        let (store, id) = (self.rooms.store.clone(), record.id.clone());
        blocking(move || store.remove_root(id.as_str()).map_err(ContainerError::from)).await?;
        Ok(self.records.remove(&record.id)?)
    }
}
