//! Restore: the pods of an earlier daemon. What is half made is undone.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::record::{Phase, Record};
use super::{SandboxError, Sandboxes, pause};
use crate::container::UNDO_PATIENCE;
use crate::state::Happening;

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

    async fn restore_one(self: &Arc<Self>, record: Record) {
        let id = record.id.clone();
        self.reserve_labels(&record);
        if record.phase == Phase::Making {
            tracing::info!(%id, "half-made pod undone");
            let this = Arc::clone(self);
            let undo = tokio::spawn(async move { this.undo(record).await });
            if timeout(UNDO_PATIENCE, undo).await.is_err() {
                tracing::warn!(%id, "half-made pod still being undone, the start goes on");
            }
            return;
        }
        let paused = record.pause.is_some();
        let told = match record.phase {
            Phase::Making | Phase::Ready => Happening::Started,
            Phase::NotReady => Happening::Stopped,
        };
        let unpinned = record.phase == Phase::Ready && !record.namespaces.are_pinned();
        let sandbox = self.publish(record, Some(told));
        if unpinned {
            // It was stopped, and the full disk did not take that.
            tracing::warn!(%id, "pod without its namespaces, not ready");
            self.note(&sandbox, |record| record.phase = Phase::NotReady);
        }
        if paused {
            let watch = pause::watch(&self.rooms.run_dir.sandbox(&id)).await;
            if watch.is_none() {
                self.note(&sandbox, |record| record.phase = Phase::NotReady);
            }
            self.watch_pause(&sandbox, watch);
        }
    }
}
