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
        let found = self.records.load()?;
        join_all(found.into_iter().map(|record| self.restore_one(record))).await;
        Ok(())
    }

    async fn restore_one(self: &Arc<Self>, record: Record) {
        let id = record.id.clone();
        self.reserve_labels(&record);
        if record.phase == Phase::Making {
            tracing::info!(%id, "half-made pod undone");
            return self.undo(record).await;
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
