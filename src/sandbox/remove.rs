//! Remove: forget a pod and all that is in it.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Sandbox, SandboxError, Sandboxes};
use crate::state::{Happening, LookupError, Stage};
use crate::sys::fault;

impl Sandboxes {
    /// Removes a pod with its containers, ending what runs. A pod that does not exist is removed
    /// already. A second call joins the first.
    ///
    /// # Errors
    /// When the id is ambiguous, or something could not be ended or removed: the pod is listed
    /// still, and the next call tries again.
    pub async fn remove(self: &Arc<Self>, prefix: &str) -> Result<(), Arc<SandboxError>> {
        let sandbox = match self.find(prefix) {
            Ok(sandbox) => sandbox,
            Err(SandboxError::Lookup(LookupError::Missing(_))) => return Ok(()),
            Err(error) => return Err(Arc::new(error)),
        };
        let (this, id) = (Arc::clone(self), sandbox.record().id.clone());
        self.removals
            .run(id, |stage| async move {
                stage.enter("stop it");
                // A part of this: who gives up meanwhile does not cancel what comes after it.
                let stopped = this.stop_found(Arc::clone(&sandbox)).await;
                stopped.map_err(SandboxError::NotStopped)?;
                this.remove_stopped(&sandbox, &stage).await
            })
            .await
    }

    async fn remove_stopped(&self, sandbox: &Sandbox, stage: &Stage) -> Result<(), SandboxError> {
        let record = sandbox.record();
        fault::point("pod-remove.stopped");
        stage.enter("remove its containers");
        let containers = &self.rooms.containers;
        let removals = containers
            .of_pod(&record.id)
            .into_iter()
            .map(|each| containers.remove_found(each));
        for removed in join_all(removals).await {
            removed.map_err(SandboxError::Container)?;
        }
        fault::point("pod-remove.containers-gone");
        stage.enter("remove the record");
        sandbox.record.remove(&self.records, &record.id)?;
        fault::point("pod-remove.record-gone");
        self.table.remove(&record.id, &record.config.name);
        self.announce(sandbox, Happening::Deleted);
        self.release_labels(&record.id);
        Ok(())
    }
}
