//! Stop: end everything that a pod has in the kernel. Its record and its addresses stay.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::create::network_of;
use super::record::{Phase, Record};
use super::{Sandbox, SandboxError, Sandboxes, files, namespaces, pause};
use crate::state::{Happening, LookupError, Stage};
use crate::sys::{blocking, fault};

impl Sandboxes {
    /// Stops a pod: its containers at once, then its network and namespaces. A pod that is stopped
    /// or does not exist is stopped already. A second call joins the first.
    ///
    /// # Errors
    /// When the id is ambiguous, or something could not be ended or released: the next call goes
    /// on with it.
    pub async fn stop(self: &Arc<Self>, prefix: &str) -> Result<(), Arc<SandboxError>> {
        match self.find(prefix) {
            Ok(sandbox) => self.stop_found(sandbox).await,
            Err(SandboxError::Lookup(LookupError::Missing(_))) => Ok(()),
            Err(error) => Err(Arc::new(error)),
        }
    }

    /// [`stop`](Self::stop) for a pod at hand.
    pub(super) async fn stop_found(
        self: &Arc<Self>,
        sandbox: Arc<Sandbox>,
    ) -> Result<(), Arc<SandboxError>> {
        let (this, id) = (Arc::clone(self), sandbox.record().id.clone());
        self.stops
            .run(
                id,
                |stage| async move { this.stop_one(&sandbox, &stage).await },
            )
            .await
    }

    async fn stop_one(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        stage: &Stage,
    ) -> Result<(), SandboxError> {
        let record = sandbox.record();
        if record.phase == Phase::NotReady && !record.holds_anything() {
            return Ok(());
        }
        // First, so that no container is created in it any more.
        self.note(sandbox, |record| record.phase = Phase::NotReady);
        fault::point("pod-stop.marked");
        stage.enter("cancel what is being created in it");
        self.rooms.containers.cancel_creations(&record.id).await;
        stage.enter("stop its containers");
        let containers = self.rooms.containers.of_pod(&record.id);
        let stops = containers.iter().map(|container| {
            let id = container.record().id.clone();
            async move {
                self.rooms
                    .containers
                    .stop(id.as_str(), Duration::ZERO)
                    .await
            }
        });
        for stopped in join_all(stops).await {
            stopped.map_err(SandboxError::Container)?;
        }
        fault::point("pod-stop.containers-ended");
        stage.enter_for(
            "release network, namespaces and cgroup",
            record.id.to_string(),
        );
        let released = self.teardown(&record).await;
        self.announce(sandbox, Happening::Stopped);
        released?;
        stage.enter("write the record");
        self.note(sandbox, |record| {
            record.attached = false;
            record.pause = None;
            record.leftover = false;
            record.namespaces = Default::default();
        });
        fault::point("pod-stop.recorded");
        Ok(())
    }

    /// Releases all that a pod without containers has in the kernel. Every step is tried, also
    /// after an error, and works when there is nothing to release; the first error is returned.
    pub(super) async fn teardown(self: &Arc<Self>, record: &Record) -> Result<(), SandboxError> {
        let paused = pause::stop(self, record).await;
        // Before its addresses are another pod's.
        self.close_ports(record).await;
        fault::point("pod-stop.ports-closed");
        let detached = if record.attached {
            self.rooms
                .networks
                .detach(&network_of(record))
                .await
                .map_err(SandboxError::from)
        } else {
            Ok(())
        };
        let (this, record) = (Arc::clone(self), record.clone());
        let released = blocking(move || {
            let id = &record.id;
            let files = files::remove(&this.rooms.run_dir.sandbox(id));
            fault::point("pod-stop.files-gone");
            let unpinned = namespaces::unpin(&this.settings.namespaces_dir, id);
            fault::point("pod-stop.unpinned");
            let (cgroups, parent) = (&this.rooms.cgroups, &record.config.cgroup_parent);
            let monitor = cgroups.remove_monitor(parent, id.as_str());
            let own = cgroups.remove_sandbox(parent, id.as_str());
            fault::point("pod-stop.cgroups-gone");
            files
                .and(unpinned)
                .and(monitor.and(own).map_err(SandboxError::from))
        })
        .await;
        paused.and(detached).and(released)
    }
}
