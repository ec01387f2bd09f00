//! Restore: what an earlier daemon knew, and what became of it meanwhile.
//!
//! Every container is asked for over its monitor's socket; no runtime is started and no order is
//! kept. A container without a monitor has its exit record; what was half made is undone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::announce::reached;
use super::record::{Phase, Record};
use super::{Container, ContainerError, Containers};
use crate::runtime::{self, Watch};
use crate::state::Happening;

/// How long a restart waits for what a monitor answers from memory. All are asked at once: a hundred
/// answer within a twentieth of this, on a machine that has nothing else to do.
const PROMPT: Duration = Duration::from_millis(500);

impl Containers {
    /// Finds the containers of an earlier daemon. What cannot be understood goes to the
    /// quarantine; nothing that runs is touched.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub async fn restore(self: &Arc<Self>) -> Result<(), ContainerError> {
        let found = self.records.load()?;
        join_all(found.into_iter().map(|record| self.restore_one(record))).await;
        Ok(())
    }

    async fn restore_one(self: &Arc<Self>, record: Record) {
        match record.phase {
            Phase::Making => {
                // Nobody waits for it: it is listed nowhere, and its name is free.
                let this = Arc::clone(self);
                let undoing = self.making.register_undo(&record.pod);
                tokio::spawn(async move {
                    this.undo_or_list(record, "the daemon ended while it was being created")
                        .await;
                    drop(undoing);
                });
            }
            Phase::Exited(_) => {
                let is_held = record.runtime.knows(record.id.as_str());
                let container = self.publish(record, Some(Happening::Stopped));
                self.forget_checkpoint_later(&container);
                if is_held {
                    // The earlier daemon was killed between noting the end and this.
                    self.release_later(container);
                } else {
                    container.released.send_replace(Some(false));
                }
            }
            Phase::Created | Phase::Running { .. } => self.find_again(record).await,
        }
    }

    /// Publishes a container that lived when the earlier daemon ended, as it is now. One whose monitor
    /// does not answer promptly is listed as it was last known, and keeps nobody else waiting.
    async fn find_again(self: &Arc<Self>, record: Record) {
        let watch = self.monitor(&record.id).watch().await.ok();
        let told = reached(&record.phase);
        let container = self.publish(record, Some(told));
        self.forget_checkpoint_later(&container);
        let this = Arc::clone(self);
        let caught_up = tokio::spawn(this.catch_up(Arc::clone(&container), watch));
        if tokio::time::timeout(PROMPT, caught_up).await.is_err() {
            let id = &container.record().id;
            tracing::warn!(%id, "its monitor does not answer, listed as it was last known");
        }
    }

    /// Notes what became of a container while there was no daemon.
    async fn catch_up(self: Arc<Self>, container: Arc<Container>, mut watch: Option<Watch>) {
        let status = match watch.as_mut() {
            Some(watch) => watch.first().await.unwrap_or_else(|error| {
                let id = &container.record().id;
                tracing::error!(%id, %error, "container listed as it was last known");
                None
            }),
            None => None,
        };
        let phase = match status {
            Some(status) => match status.phase {
                runtime::Phase::Created => None,
                runtime::Phase::Running => Some(Phase::Running {
                    started_at_ns: i64::try_from(status.started_at_ns).unwrap_or(i64::MAX),
                }),
                runtime::Phase::Exited => Some(Phase::Exited(super::supervise::exit_from(&status))),
            },
            None => self.recorded_exit(&container),
        };
        if let Some(phase) = phase
            && phase != container.record().phase
        {
            self.note(&container, |record| record.phase = phase);
        }
        self.announce(&container, reached(&container.record().phase));
        match container.record().phase {
            Phase::Exited(_) => self.release_later(container),
            Phase::Making | Phase::Created | Phase::Running { .. } => {
                self.thaw_later(&container);
                self.place_late(&container, watch.as_ref());
                self.supervise(container, watch);
            }
        }
    }

    /// The earlier daemon ended in the middle of a checkpoint.
    fn thaw_later(self: &Arc<Self>, container: &Arc<Container>) {
        if !container.record().frozen {
            return;
        }
        let (this, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let _turn = container.turn.lock().await;
            if let Err(error) = this.thaw(&container).await {
                let id = &container.record().id;
                tracing::error!(%id, %error, "container frozen by a checkpoint not thawed");
            }
        });
    }

    fn recorded_exit(&self, container: &Container) -> Option<Phase> {
        let id = &container.record().id;
        match self.monitor(id).exit_record() {
            Ok(exit) => exit.map(|exit| Phase::Exited(super::supervise::recorded(&exit))),
            Err(error) => {
                tracing::error!(%id, %error, "exit record not usable");
                None
            }
        }
    }
}
