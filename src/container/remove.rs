//! Remove: forget a container and free all that it has.

use std::sync::Arc;
use std::time::Duration;

use super::{Container, ContainerError, Containers};
use crate::state::{Happening, LookupError, Stage};
use crate::sys::fault;

impl Containers {
    /// Removes a container, ending it at once if it runs. Its log stays, the kubelet removes that.
    /// A container that does not exist is removed already. A second call joins the first.
    ///
    /// # Errors
    /// When the id is ambiguous or something of the container cannot be removed: it is listed
    /// still, and the next call tries again.
    pub async fn remove(self: &Arc<Self>, prefix: &str) -> Result<(), Arc<ContainerError>> {
        match self.find(prefix) {
            Ok(container) => self.remove_found(container).await,
            Err(ContainerError::Lookup(LookupError::Missing(_))) => Ok(()),
            Err(error) => Err(Arc::new(error)),
        }
    }

    /// [`remove`](Self::remove) for a container at hand.
    pub async fn remove_found(
        self: &Arc<Self>,
        container: Arc<Container>,
    ) -> Result<(), Arc<ContainerError>> {
        let (this, id) = (Arc::clone(self), container.record().id.clone());
        self.removals
            .run(id, |stage| async move {
                stage.enter("end it");
                // A part of this: who gives up meanwhile does not cancel what comes after it.
                let ended = this.stop_found(&container, Duration::ZERO).await;
                ended.map_err(ContainerError::NotStopped)?;
                this.remove_ended(&container, &stage).await
            })
            .await
    }

    async fn remove_ended(
        &self,
        container: &Container,
        stage: &Stage,
    ) -> Result<(), ContainerError> {
        let record = container.record();
        stage.enter_for(
            "wait for the release that the exit began",
            record.runtime.call("delete"),
        );
        // The sender lives as long as `container`, so the wait ends only with the condition.
        let mut released = container.released.subscribe();
        let released = released
            .wait_for(Option::is_some)
            .await
            .is_ok_and(|all| *all == Some(true));
        if !released {
            stage.enter_for(
                "release what the exit could not",
                record.runtime.call("delete --force"),
            );
            self.release(&record, true).await?;
        }
        stage.enter("wait for its monitor to go");
        self.monitor(&record.id).gone().await;
        fault::point("remove.ended");
        stage.enter("remove the writable layer and the record");
        self.forget_root(&record).await?;
        container.record.remove(&self.records, &record.id)?;
        fault::point("remove.record-gone");
        // From both at once and last: the kubelet asks for the status right before the removal,
        // and a container that is listed must have one.
        self.table.remove(&record.id, &record.name);
        self.announce(container, Happening::Deleted);
        Ok(())
    }
}
