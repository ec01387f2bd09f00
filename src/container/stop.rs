//! Stop: ask the container to end, and end it when it does not.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout};

use super::record::Init;
use super::{Container, ContainerError, Containers, Phase, Record};
use crate::state::{LookupError, Stage};
use crate::sys::{blocking, fault, pidfd};

/// How long the OCI runtime may take to send a signal before the daemon sends it itself: stopping
/// must not hang with a runtime that hangs.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(10);
/// The part of the grace that the runtime may take to send the stop signal: who gets it needs the rest.
const PART_TO_SIGNAL: u32 = 2;
/// How long the end of a container may take to be known once its stuck monitor was killed.
const TOLD: Duration = Duration::from_secs(10);
/// How long looking whether a process has ended may take: the kernel knows at once.
const LOOK: Duration = Duration::from_secs(1);

impl Containers {
    /// Stops a container: its stop signal first, SIGKILL after `grace`. Returns when it has ended
    /// and its record says how. A container that has ended or does not exist is stopped already. A
    /// second call joins the first and may only shorten its wait.
    ///
    /// # Errors
    /// When the id is ambiguous, or the processes do not go away after SIGKILL: the next call
    /// goes on with it.
    pub async fn stop(
        self: &Arc<Self>,
        prefix: &str,
        grace: Duration,
    ) -> Result<(), Arc<ContainerError>> {
        match self.find(prefix) {
            Ok(container) => self.stop_found(&container, grace).await,
            Err(ContainerError::Lookup(LookupError::Missing(_))) => Ok(()),
            Err(error) => Err(Arc::new(error)),
        }
    }

    /// [`stop`](Self::stop) for a container at hand.
    pub(super) async fn stop_found(
        self: &Arc<Self>,
        container: &Arc<Container>,
        grace: Duration,
    ) -> Result<(), Arc<ContainerError>> {
        if container.record().exit().is_some() {
            return Ok(());
        }
        // A far deadline is a year: Instant has an end, and the kubelet may say i64::MAX.
        let deadline = Instant::now() + grace.min(Duration::from_secs(365 * 86_400));
        container.kill_at.send_if_modified(|kill_at| {
            let sooner = kill_at.is_none_or(|before| deadline < before);
            if sooner {
                *kill_at = Some(deadline);
            }
            sooner
        });
        let (this, container) = (Arc::clone(self), Arc::clone(container));
        let id = container.record().id.clone();
        self.stops
            .run(id, |stage| async move {
                this.stop_one(&container, &stage).await
            })
            .await
    }

    async fn stop_one(&self, container: &Container, stage: &Stage) -> Result<(), ContainerError> {
        let outcome = self.signal_and_wait(container, stage).await;
        container.kill_at.send_replace(None);
        outcome
    }

    async fn signal_and_wait(
        &self,
        container: &Container,
        stage: &Stage,
    ) -> Result<(), ContainerError> {
        let record = container.record();
        let mut kill_at = container.kill_at.subscribe();
        let running = matches!(record.phase, Phase::Running { .. });
        let grace = kill_at
            .borrow()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
            .filter(|grace| running && !grace.is_zero());
        if let Some(grace) = grace {
            stage.enter_for("stop signal", record.runtime.call("kill"));
            let patience = SIGNAL_PATIENCE.min(grace / PART_TO_SIGNAL);
            let sent = tokio::select! {
                sent = send(&record, record.stop_signal, patience) => sent,
                // The wait may have been shortened meanwhile.
                () = wait_until_ended_or_due(container, &mut kill_at) => Ok(true),
            };
            match sent {
                Ok(_) => {
                    fault::point("stop.signalled");
                    stage.enter_for("wait for the container to end by itself", first(&record));
                    wait_until_ended_or_due(container, &mut kill_at).await;
                }
                // Nobody will end by a signal that was not sent.
                Err(error) => tracing::warn!(id = %record.id, %error, "stop signal not sent"),
            }
        }
        if container.record().exit().is_none() {
            self.kill_and_wait(container, &record, stage).await?;
        }
        Ok(())
    }

    /// Kills what runs of a container and waits until it has ended.
    pub(super) async fn kill_and_wait(
        &self,
        container: &Container,
        record: &Record,
        stage: &Stage,
    ) -> Result<(), ContainerError> {
        stage.enter_for("SIGKILL", record.runtime.call("kill"));
        send(record, Signal::SIGKILL as i32, SIGNAL_PATIENCE).await?;
        fault::point("stop.killed");
        stage.enter_for("wait for the killed container to be gone", first(record));
        self.kill_stragglers(record).await?;
        self.wait_for_the_killed(container, record).await
    }

    /// Without a PID namespace of the container's own the kernel does not end its other processes
    /// with the first one.
    async fn kill_stragglers(&self, record: &Record) -> Result<(), ContainerError> {
        if record.own_pid_namespace {
            return Ok(());
        }
        let (cgroups, patience) = (Arc::clone(&self.rooms.cgroups), self.settings.kill_wait);
        let path = cgroups.container_path(&record.cgroup_parent, record.id.as_str())?;
        blocking(move || Ok(cgroups.kill(&path, patience)?)).await
    }

    async fn wait_for_the_killed(
        &self,
        container: &Container,
        record: &Record,
    ) -> Result<(), ContainerError> {
        let waited = self.settings.kill_wait;
        if timeout(waited, container.ended()).await.is_ok() {
            return Ok(());
        }
        if has_ended(record).await {
            // Only its monitor keeps it: stopped, or held by the disk of the log. Without it the end
            // is told as that of any container whose monitor was killed.
            tracing::warn!(id = %record.id, "killed, and its monitor does not say so: that is killed too");
            self.monitor(&record.id).end().await;
            if timeout(TOLD, container.ended()).await.is_ok() {
                return Ok(());
            }
        }
        let pid = record.init.map_or(0, |init| init.pid);
        let state = match first_process(record) {
            Ok(None) => "its process has gone, its monitor does not say so".to_owned(),
            Ok(Some(_)) | Err(_) => describe(pid),
        };
        Err(ContainerError::Unkillable {
            id: record.id.clone(),
            pid,
            waited,
            state,
        })
    }
}

async fn wait_until_ended_or_due(
    container: &Container,
    kill_at: &mut tokio::sync::watch::Receiver<Option<Instant>>,
) {
    loop {
        let Some(deadline) = *kill_at.borrow_and_update() else {
            return;
        };
        tokio::select! {
            () = container.ended() => return,
            () = tokio::time::sleep_until(deadline) => return,
            changed = kill_at.changed() => if changed.is_err() { return },
        }
    }
}

/// Has the runtime send a signal to the container's first process. When the runtime does not know
/// the container any more, its state being gone or elsewhere, or does not answer in time, the daemon
/// sends it. Returns whether there was a process to send it to.
async fn send(record: &Record, signal: i32, patience: Duration) -> Result<bool, ContainerError> {
    let sent = record
        .runtime
        .kill(record.id.as_str(), signal, patience)
        .await;
    if let Ok(true) = sent {
        return Ok(true);
    }
    let Some(Init { pid, .. }) = record.init else {
        return Ok(sent?);
    };
    let process = match first_process(record) {
        Ok(Some(process)) => process,
        // A runtime that did not come to its end in time may have sent it.
        Ok(None) => return Ok(false),
        Err(error) => {
            sent?;
            let path = Path::new("/proc").join(pid.to_string());
            return Err(super::sources::io_error(
                "open, to signal it, the process",
                &path,
            )(error));
        }
    };
    let why = match &sent {
        Ok(_) => "the runtime does not know the container".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(id = %record.id, signal, why, "signal sent by the daemon itself");
    process.signal(signal);
    Ok(true)
}

/// Whether the container's first process runs no more for certain, waited for by its parent or not.
async fn has_ended(record: &Record) -> bool {
    match first_process(record) {
        Ok(Some(process)) => matches!(timeout(LOOK, process.ended()).await, Ok(Ok(()))),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The container's first process, if it has one that lives.
///
/// # Errors
/// When it cannot be known.
fn first_process(record: &Record) -> io::Result<Option<pidfd::Process>> {
    let open = |init: Init| pidfd::Process::open(init.pid, Some(init.start_time));
    record.init.map_or(Ok(None), open)
}

/// The container's first process, in words.
fn first(record: &Record) -> String {
    record
        .init
        .map_or_else(String::new, |init| format!("pid {}", init.pid))
}

/// The kernel's word for what a process does: its state, and the function that it sleeps in.
fn describe(pid: i32) -> String {
    let process = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let state = status
        .lines()
        .find_map(|line| line.strip_prefix("State:"))
        .map_or("state unknown", str::trim);
    let sleeps_in = std::fs::read_to_string(process.join("wchan")).unwrap_or_default();
    format!("state {state}, in kernel function `{sleeps_in}`")
}
