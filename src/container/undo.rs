//! Undo: release what a container has in the kernel and on disk. Every step works when there is
//! nothing to release, so it serves the ended, the half made and what a crash left alike; all are
//! tried, and the first error is told.

use std::sync::Arc;

use super::record::{Exit, Reason};
use super::{ContainerError, Containers, Phase, Record};
use crate::state::Happening;
use crate::sys::{blocking, clock, fault};

impl Containers {
    /// Undoes a container that was not made to the end. When that does not work, it is listed as
    /// ended, so that the kubelet has it removed, and removing it tries again.
    pub(super) async fn undo_or_list(&self, mut record: Record, message: &str) {
        let Err(error) = self.undo(&record).await else {
            return;
        };
        tracing::error!(id = %record.id, %error, "half-made container not undone, listed as ended");
        record.half_made = true;
        record.phase = Phase::Exited(Exit {
            started_at_ns: 0,
            finished_at_ns: clock::now_ns(),
            exit_code: 128,
            reason: Reason::StartError,
            message: message.to_owned(),
        });
        let container = self.publish(record, None);
        self.announce(&container, Happening::Stopped);
        container.released.send_replace(Some(false));
    }

    /// Kills what runs, releases everything, forgets the record.
    async fn undo(&self, record: &Record) -> Result<(), ContainerError> {
        self.release(record, true).await?;
        // What it writes into the bundle would be in the way of removing that.
        self.monitor(&record.id).gone().await;
        self.forget_root(record).await?;
        Ok(self.records.remove(&record.id)?)
    }

    /// Removes what the runtime and the kernel keep of a container that has ended, or, with
    /// `force`, of one that may run still: all but its record and its writable layer.
    pub(super) async fn release(&self, record: &Record, force: bool) -> Result<(), ContainerError> {
        if force {
            self.monitor(&record.id).end().await;
        }
        let deleted = record.runtime.delete(record.id.as_str(), force).await;
        fault::point("release.deleted");
        if (force || deleted.is_err())
            && self.rooms.cgroups.uses_scopes(&record.cgroup_parent)
            && let Err(error) = self.rooms.cgroups.forget_scopes(record.id.as_str()).await
        {
            tracing::warn!(id = %record.id, %error, "a scope may stay as failed");
        }
        let (store, cgroups) = (self.rooms.store.clone(), Arc::clone(&self.rooms.cgroups));
        let (id, parent) = (record.id.clone(), record.cgroup_parent.clone());
        blocking(move || {
            let unmounted = store.unmount_root(id.as_str());
            fault::point("release.unmounted");
            let container = cgroups.remove_container(&parent, id.as_str());
            let monitor = cgroups.remove_monitor(&parent, id.as_str());
            fault::point("release.cgroups-removed");
            deleted?;
            unmounted?;
            container?;
            Ok(monitor?)
        })
        .await
    }

    /// Removes the writable layer. The record with the bundle goes after it, and last.
    pub(super) async fn forget_root(&self, record: &Record) -> Result<(), ContainerError> {
        let (store, id) = (self.rooms.store.clone(), record.id.clone());
        blocking(move || store.remove_root(id.as_str()).map_err(ContainerError::from)).await?;
        fault::point("remove.root-gone");
        Ok(())
    }
}
