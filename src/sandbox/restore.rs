//! Restore: the pods of an earlier daemon. What is half made is undone.

use std::sync::Arc;

use futures_util::future::join_all;

use super::record::{Phase, Record};
use super::{SandboxError, Sandboxes, pause};
use crate::state::Happening;

impl Sandboxes {
    /// Finds the pods of an earlier daemon. Containers must have been restored before.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub async fn restore(self: &Arc<Self>) -> Result<(), SandboxError> {
        pause::prepare(&self.rooms.run_dir)?;
        let found = self.records.load()?;
        join_all(found.into_iter().map(|record| self.restore_one(record))).await;
        self.restore_ports().await;
        Ok(())
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
        let paused = record.pause;
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
        if let Some(process) = paused {
            let watch = pause::watch(&self.rooms.run_dir.sandbox(&id)).await;
            if watch.is_none() && !pause::lives(process) {
                self.note(&sandbox, |record| record.phase = Phase::NotReady);
            }
            self.watch_pause(&sandbox, watch);
        }
    }
}
