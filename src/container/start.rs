//! Start: let the created container's init go on to its command.

use std::sync::Arc;

use super::record::{Exit, Reason};
use super::{Container, ContainerError, Containers, Phase, Record};
use crate::runtime::RuntimeError;
use crate::state::{Happening, Stage};
use crate::sys::{clock, fault};

impl Containers {
    /// Starts a created container. The same call again joins the one in flight, and finds the
    /// container running after it.
    ///
    /// # Errors
    /// When there is no such container, it has ended, or the runtime refuses: it is then
    /// exited with reason `StartError`.
    pub async fn start(self: &Arc<Self>, prefix: &str) -> Result<(), Arc<ContainerError>> {
        let container = self.find(prefix).map_err(Arc::new)?;
        let this = Arc::clone(self);
        let id = container.record().id.clone();
        self.starts
            .run(id, |stage| async move {
                this.start_one(&container, &stage).await
            })
            .await
    }

    async fn start_one(&self, container: &Container, stage: &Stage) -> Result<(), ContainerError> {
        let record = container.record();
        let refused = match record.phase {
            Phase::Created => None,
            Phase::Making => Some("it is being created"),
            // The answer to the call that started it was not heard: this is that call again.
            Phase::Running { .. } => return Ok(()),
            Phase::Exited(_) => Some("it has ended"),
        };
        if let Some(state) = refused {
            return Err(ContainerError::NotCreated {
                id: record.id.clone(),
                state,
            });
        }
        stage.enter("wait for an update of its limits");
        let _turn = container.turn.lock().await;
        stage.enter_for("runtime start", record.runtime.call("start"));
        match self.monitor(&record.id).start(&record.runtime).await {
            Ok(started_at_ns) => {
                fault::point("start.done");
                self.note_started(container, started_at_ns);
                fault::point("start.recorded");
                self.announce(container, Happening::Started);
                Ok(())
            }
            // A daemon that was killed had asked already, and the container has ended since: its
            // monitor has written that down and gone, and who follows it records it.
            Err(RuntimeError::MonitorGone | RuntimeError::Monitor { .. })
                if self.has_been_started(&record) =>
            {
                Ok(())
            }
            Err(error) => {
                let message = error.to_string();
                if let Err(left) = self.fail_to_start(container, &message, stage).await {
                    let id = &record.id;
                    tracing::error!(%id, error = %left, "what did not start is not ended");
                }
                Err(error.into())
            }
        }
    }

    pub(super) fn note_started(&self, container: &Container, started_at_ns: u64) {
        let started_at_ns = i64::try_from(started_at_ns).unwrap_or(i64::MAX);
        self.note(container, |record| {
            // A short-lived container may have ended, and been recorded so, before this.
            if record.phase == Phase::Created {
                record.phase = Phase::Running { started_at_ns };
            }
        });
    }

    fn has_been_started(&self, record: &Record) -> bool {
        let exit = self.monitor(&record.id).exit_record();
        exit.is_ok_and(|exit| exit.is_some_and(|exit| exit.started_at_ns > 0))
    }

    /// The container that could not be started has ended, as the kubelet sees it.
    async fn fail_to_start(
        &self,
        container: &Container,
        message: &str,
        stage: &Stage,
    ) -> Result<(), ContainerError> {
        let record = container.record();
        if record.exit().is_none() {
            self.kill_and_wait(container, &record, stage).await?;
        }
        self.note(container, |record| {
            let finished_at_ns = match &record.phase {
                Phase::Exited(exit) => exit.finished_at_ns,
                Phase::Making | Phase::Created | Phase::Running { .. } => clock::now_ns(),
            };
            record.phase = Phase::Exited(Exit {
                started_at_ns: 0,
                finished_at_ns,
                exit_code: 128,
                reason: Reason::StartError,
                message: message.to_owned(),
            });
        });
        self.correct(container, Happening::Stopped);
        Ok(())
    }
}
