//! Create: from a configuration to a pod that containers can be put into.

use std::sync::Arc;
use std::time::Duration;

use super::labels::label_files;
use super::namespaces::{self, Wanted};
use super::record::{Phase, PodConfig, Record};
use super::{SandboxError, Sandboxes, files, pause};
use crate::network::{self, Bandwidth};
use crate::runtime::{Program, Watch};
use crate::spec::config::{Mappings, NamespaceMode};
use crate::state::{Happening, Id, Stage, Versioned};
use crate::sys::{blocking, clock, fault};

/// How long a pod waits for a network to become ready before its creation fails with the reason:
/// long enough for a configuration that is just being written, short enough for every client to
/// hear it. The kubelet asks for no such pods while the network is not ready, and comes again.
const NETWORK_WAIT: Duration = Duration::from_secs(1);

impl Sandboxes {
    /// Makes a pod and returns its id. The same call again, while the first runs or by a client
    /// that did not wait for its answer, gets the same pod.
    ///
    /// # Errors
    /// When the configuration cannot be, no network is ready, or a step does not work; nothing is
    /// left of the pod then.
    pub async fn run(
        self: &Arc<Self>,
        config: PodConfig,
        handler: String,
    ) -> Result<Id, Arc<SandboxError>> {
        let (this, name) = (Arc::clone(self), config.name.clone());
        self.runs
            .run(name, |stage| async move {
                Box::pin(this.run_one(config, handler, &stage)).await
            })
            .await
    }

    async fn run_one(
        self: &Arc<Self>,
        config: PodConfig,
        handler: String,
        stage: &Stage,
    ) -> Result<Id, SandboxError> {
        if let Some(existing) = self.table.named(&config.name) {
            // One that is being removed is as good as gone.
            self.removals.ended(&existing.record().id).await;
        }
        if let Some(existing) = self.table.named(&config.name) {
            let record = existing.record();
            return match record.phase {
                Phase::Making | Phase::Ready => Ok(record.id.clone()),
                Phase::NotReady => Err(SandboxError::Exists {
                    name: config.name,
                    id: record.id.clone(),
                }),
            };
        }
        stage.enter("validate");
        config.validate()?;
        let found = self.rooms.handlers.get(&handler)?;
        config.fits(&found)?;
        let shm_bytes = self.heed_annotations(&config, &found)?;
        let runtime = found.program.clone();
        self.rooms.cgroups.check_parent(&config.cgroup_parent)?;
        if config.security.namespaces.network != NamespaceMode::Node {
            stage.enter("wait for the network to be ready");
            self.rooms.networks.ready(NETWORK_WAIT).await?;
        }
        let mut record = first_record(config, handler, runtime);
        record.forwards_ports = record.attached && !self.settings.host_ports_by_cni;
        stage.enter("claim its host ports");
        self.claim_ports(&record)?;
        if let Err(error) = self.write_first(&mut record, stage) {
            self.close_ports(&record).await;
            return Err(error);
        }
        fault::point("pod.recorded");
        match Box::pin(self.build(record.clone(), shm_bytes, stage)).await {
            Ok((record, watch)) => {
                let sandbox = self.publish(record, None);
                fault::point("pod.published");
                self.announce(&sandbox, Happening::Started);
                self.watch_pause(&sandbox, watch);
                Ok(sandbox.record().id.clone())
            }
            Err(error) => {
                stage.enter_for("undo what was made", record.id.to_string());
                self.undo(record).await;
                Err(error)
            }
        }
    }

    fn write_first(&self, record: &mut Record, stage: &Stage) -> Result<(), SandboxError> {
        stage.enter("choose SELinux labels");
        record.selinux = self.choose_labels(&record.id, &record.config)?;
        stage.enter("write the record");
        let written = self.records.write(&record.id, record);
        if written.is_err() {
            self.release_labels(&record.id);
        }
        Ok(written?)
    }

    /// Makes the parts of a pod one after the other.
    async fn build(
        self: &Arc<Self>,
        mut record: Record,
        shm_bytes: Option<u64>,
        stage: &Stage,
    ) -> Result<(Record, Option<Watch>), SandboxError> {
        stage.enter_for("make the pod's slice", record.config.cgroup_parent.clone());
        Box::pin(
            self.rooms
                .cgroups
                .ensure_slice(&record.config.cgroup_parent),
        )
        .await?;
        stage.enter("make namespaces, files and cgroup");
        let this = Arc::clone(self);
        record = blocking(move || this.make_kernel_objects(record, shm_bytes)).await?;
        if record.own_network() {
            stage.enter_for("CNI ADD", record.id.to_string());
            let attachment = self.rooms.networks.attach(&network_of(&record)).await?;
            if record.forwards_ports {
                let host_ports = self.rooms.networks.host_ports();
                host_ports
                    .open(record.id.as_str(), &attachment.result)
                    .await?;
                fault::point("pod.ports-open");
            }
            record.ips = attachment.ips;
            record.cni_result = Some(attachment.result);
        }
        let mut watch = None;
        if record.config.security.namespaces.pid == NamespaceMode::Pod {
            stage.enter_for(
                "start the pause process",
                record.runtime.call("create and start"),
            );
            let (process, ended) = pause::start(self, &record).await?;
            record.pause = Some(process);
            watch = Some(ended);
            fault::point("pause.started");
        }
        stage.enter("write the record");
        record.phase = Phase::Ready;
        self.records.write(&record.id, &record)?;
        fault::point("pod.ready-recorded");
        Ok((record, watch))
    }

    fn make_kernel_objects(
        &self,
        mut record: Record,
        shm_bytes: Option<u64>,
    ) -> Result<Record, SandboxError> {
        let config = &record.config;
        let options = &config.security.namespaces;
        let root = |ids: Mappings| (ids.uids.host_id, ids.gids.host_id);
        let wanted = Wanted {
            user: options.mappings(),
            network: record.own_network(),
            ipc: options.ipc != NamespaceMode::Node,
            hostname: record.hostname.clone(),
            sysctls: config.sysctls_of(&self.settings),
        };
        let id = &record.id;
        let namespaces = namespaces::pin(
            &self.settings.namespaces_dir,
            self.rooms.run_dir.top(),
            id,
            &wanted,
        )?;
        fault::point("pod.namespaces-made");
        let directory = self.rooms.run_dir.sandbox(id);
        files::create(
            &directory,
            config.dns.as_ref(),
            &record.hostname,
            wanted.ipc.then(|| files::Shm {
                bytes: shm_bytes.unwrap_or(files::SHM_BYTES),
                label: record.selinux.as_ref().map(|labels| labels.mount.as_str()),
            }),
            wanted.user.map_or((0, 0), root),
        )?;
        if let Some(labels) = &record.selinux {
            label_files(&directory, labels)?;
        }
        fault::point("pod.files-made");
        if options.pid != NamespaceMode::Pod {
            // The pause process's cgroup is made by its runtime.
            self.rooms
                .cgroups
                .create_sandbox(&config.cgroup_parent, id.as_str())?;
            fault::point("pod.cgroup-made");
        }
        record.namespaces = namespaces;
        Ok(record)
    }

    /// Undoes a pod that was not made to the end. When that does not work either, the pod is
    /// listed as not ready, so that the kubelet has it removed, and removing it tries again.
    pub(super) async fn undo(self: &Arc<Self>, mut record: Record) {
        let undone = match self.teardown(&record).await {
            Ok(()) => {
                self.release_labels(&record.id);
                self.records.remove(&record.id).map_err(SandboxError::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            tracing::error!(id = %record.id, %error, "half-made pod not undone, listed as not ready");
            record.phase = Phase::NotReady;
            record.leftover = true;
            record.half_made = true;
            if let Err(error) = self.records.write(&record.id, &record) {
                tracing::error!(id = %record.id, %error, "record not written");
            }
            let sandbox = self.publish(record, None);
            self.announce(&sandbox, Happening::Stopped);
        }
    }

    /// Marks the pod not ready when its pause process ends before the pod does. `watch` is `None`
    /// when its monitor has gone already.
    pub(super) fn watch_pause(
        self: &Arc<Self>,
        sandbox: &Arc<super::Sandbox>,
        watch: Option<Watch>,
    ) {
        let Some(of_pause) = sandbox.record().pause else {
            return;
        };
        let (this, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        tokio::spawn(async move {
            let ended = pause::ended(of_pause, watch).await;
            let record = sandbox.record();
            if record.phase == Phase::Ready {
                tracing::warn!(id = %record.id, ?ended, "pause process ended, pod is not ready");
                this.note(&sandbox, |record| record.phase = Phase::NotReady);
                this.announce(&sandbox, Happening::Stopped);
            }
        });
    }
}

/// What is known of a pod before anything is made for it.
fn first_record(config: PodConfig, handler: String, runtime: Program) -> Record {
    let id = Id::random();
    Record {
        version: Record::VERSION,
        handler,
        created_at_ns: clock::now_ns(),
        phase: Phase::Making,
        namespaces: Default::default(),
        hostname: config.hostname_of(&id),
        ips: Vec::new(),
        cni_result: None,
        attached: config.security.namespaces.network != NamespaceMode::Node,
        forwards_ports: false,
        selinux: None,
        pause: None,
        runtime,
        leftover: false,
        half_made: false,
        unknown: Default::default(),
        config,
        id,
    }
}

/// The pod as CNI knows it.
pub(super) fn network_of(record: &Record) -> network::Pod {
    let config = &record.config;
    let (namespace, name, uid) = (&config.name.namespace, &config.name.name, &config.name.uid);
    let bandwidth = Bandwidth::from_annotations(&config.annotations).unwrap_or_else(|error| {
        tracing::warn!(id = %record.id, %error, "traffic limit ignored");
        Bandwidth::default()
    });
    network::Pod {
        sandbox_id: record.id.to_string(),
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        netns: record.namespaces.network.clone().unwrap_or_default(),
        attempted: record.attached,
        // Those that the daemon forwards must not be forwarded by a plugin too.
        port_mappings: if record.forwards_ports {
            Vec::new()
        } else {
            config.port_mappings.clone()
        },
        dns: config.dns.clone(),
        bandwidth,
        cgroup_parent: Some(config.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
        annotations: config.annotations.clone(),
    }
}
