//! Restore: the pods of an earlier daemon. What is half made is undone, what has no owner is swept.

use std::sync::Arc;

use futures_util::future::join_all;

use super::record::{Phase, Record};
use super::{SandboxError, Sandboxes, namespaces, pause};
use crate::state::Happening;
use crate::sys::blocking;

impl Sandboxes {
    /// Finds the pods of an earlier daemon. Containers must have been restored before.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub async fn restore(self: &Arc<Self>) -> Result<(), SandboxError> {
        let found = self.records.load()?;
        join_all(found.into_iter().map(|record| self.restore_one(record))).await;
        Ok(())
    }

    /// Releases what pods have left that no record knows, after a reboot above all: attachments to
    /// networks, and pinned namespaces.
    pub async fn sweep(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.rooms
            .networks
            .detach_unknown(move |id| this.records.owns(id))
            .await;
        let this = Arc::clone(self);
        let swept = blocking(move || {
            let directory = &this.settings.namespaces_dir;
            for id in namespaces::pinned(directory) {
                if !this.records.owns(id.as_str()) {
                    tracing::info!(%id, "namespaces of a pod that is gone released");
                    namespaces::unpin(directory, &id)?;
                }
            }
            Ok::<_, SandboxError>(())
        });
        if let Err(error) = swept.await {
            tracing::error!(%error, "namespaces not swept");
        }
    }

    async fn restore_one(self: &Arc<Self>, record: Record) {
        let id = record.id.clone();
        self.reserve_labels(&record);
        if record.phase == Phase::Making {
            // Nobody waits for it: it is listed nowhere, and its name is free.
            let this = Arc::clone(self);
            tokio::spawn(async move {
                this.undo(record).await;
                tracing::info!(%id, "half-made pod undone");
            });
            return;
        }
        let paused = record.pause.is_some();
        let told = match record.phase {
            Phase::Making | Phase::Ready => Happening::Started,
            Phase::NotReady => Happening::Stopped,
        };
        let sandbox = self.publish(record, Some(told));
        if paused {
            let watch = pause::watch(&self.rooms.run_dir.sandbox(&id)).await;
            if watch.is_none()
                && let Err(error) = self.update(&sandbox, |record| record.phase = Phase::NotReady)
            {
                tracing::error!(%id, %error, "end of the pause process not recorded");
            }
            self.watch_pause(&sandbox, watch);
        }
    }
}
