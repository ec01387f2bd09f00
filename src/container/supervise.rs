//! Supervision: what the monitor tells of a container's end is written down and made visible, and
//! what the container leaves in the kernel is released.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::record::{Exit, Init, Reason};
use super::{Container, ContainerError, Containers, Phase, Record};
use crate::runtime::{self, RuntimeError, Status, Watch};
use crate::state::Happening;
use crate::sys::{blocking, clock, fault, pidfd};

/// How long after a container's end its monitor may take to write that down: a little more than it
/// waits for the last output of those who still have its streams.
const MONITORS_RECORD: Duration = Duration::from_millis(800);
/// How long a monitor's record may be unreadable before it counts as none.
const UNREADABLE: Duration = Duration::from_secs(60);
/// The exit code of a container whose end nobody saw, as CRI-O gives it.
const UNKNOWN_EXIT_CODE: i32 = 255;

impl Containers {
    /// Follows a container to its end, in a task that ends with it. `watch` is `None` when the
    /// monitor has gone already.
    pub(super) fn supervise(self: &Arc<Self>, container: Arc<Container>, watch: Option<Watch>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let exit = this.exit_of(&container, watch).await;
            let record = container.record();
            tracing::info!(
                id = %record.id,
                name = %record.name,
                exit_code = exit.exit_code,
                reason = exit.reason.as_str(),
                "container ended"
            );
            fault::point("end.told");
            let end = |record: &mut Record| record.phase = Phase::Exited(exit);
            let written = container.record.note(&this.records, &record.id, end);
            if let Err(error) = written {
                // The monitor's own record is on disk: the next daemon reads that.
                tracing::error!(id = %record.id, %error, "exit not recorded");
            }
            fault::point("end.recorded");
            this.announce(&container, Happening::Stopped);
            this.release_ended(&container).await;
        });
    }

    /// Has a monitor of an earlier daemon's moved to where that had no time to move it.
    pub(super) fn place_late(&self, container: &Container, watch: Option<&Watch>) {
        let record = container.record();
        if let Some(watch) = watch {
            let (id, parent) = (record.id.as_str(), &record.cgroup_parent);
            watch.place_late(&self.rooms.cgroups, id, parent, &record.monitor_cgroup);
        }
    }

    /// Releases an ended container in a task of its own.
    pub(super) fn release_later(self: &Arc<Self>, container: Arc<Container>) {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.release_ended(&container).await });
    }

    async fn release_ended(&self, container: &Container) {
        let _turn = container.turn.lock().await;
        let record = container.record();
        let released = self.release(&record, false).await;
        if let Err(error) = &released {
            tracing::error!(id = %record.id, %error, "not released, removal will try again");
        }
        container.released.send_replace(Some(released.is_ok()));
    }

    /// Waits for the container's end and says how it was.
    async fn exit_of(&self, container: &Container, watch: Option<Watch>) -> Exit {
        let record = container.record();
        if let Some(watch) = watch {
            match watch
                .exited(|status| self.told_start(container, status))
                .await
            {
                Ok(Some(status)) => return exit_from(&status),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(id = %record.id, %error, "monitor's answer not usable")
                }
            }
        }
        match self.monitor(&record.id).exit_record() {
            Ok(Some(exit)) => return recorded(&exit),
            Ok(None) => {}
            Err(error) => tracing::error!(id = %record.id, %error, "exit record not usable"),
        }
        tracing::error!(id = %record.id, "the container's monitor has gone without telling its end");
        self.exit_without_monitor(&container.record()).await
    }

    /// What the monitor has written down, read again for a while where that fails: descriptors may be
    /// short.
    async fn exit_record_patiently(
        &self,
        record: &Record,
    ) -> Result<Option<conmon::ExitRecord>, RuntimeError> {
        let end = Instant::now() + UNREADABLE;
        loop {
            match self.monitor(&record.id).exit_record() {
                Err(RuntimeError::Monitor { .. }) if Instant::now() < end => {
                    tokio::time::sleep(UNREADABLE / 60).await;
                }
                told => return told,
            }
        }
    }

    /// A start that an earlier daemon asked for is known to have come off by the monitor alone.
    fn told_start(&self, container: &Container, status: &Status) {
        let record = container.record();
        // Whoever asks for it here notes it.
        if status.phase == runtime::Phase::Running
            && record.phase == Phase::Created
            && !self.starts.is_running(&record.id)
        {
            self.note_started(container, status.started_at_ns);
            self.announce(container, Happening::Started);
        }
    }

    /// What a monitor that could not be reached, and lives, has written down.
    async fn recorded_after_all(&self, record: &Record) -> Option<Exit> {
        let end = Instant::now() + MONITORS_RECORD;
        loop {
            if let Ok(Some(exit)) = self.monitor(&record.id).exit_record() {
                return Some(recorded(&exit));
            }
            if Instant::now() > end {
                return None;
            }
            tokio::time::sleep(MONITORS_RECORD / 8).await;
        }
    }

    /// Watches a container whose monitor was killed. The kernel tells how it ended, where it is new
    /// enough and the container lives still.
    async fn exit_without_monitor(&self, record: &Record) -> Exit {
        let Some(Init { pid, start_time }) = record.init else {
            return lost(record, None);
        };
        let Some(process) = pidfd::Process::open_patiently(pid, start_time).await else {
            return match self.exit_record_patiently(record).await {
                Ok(Some(exit)) => recorded(&exit),
                Ok(None) | Err(_) => lost(record, None),
            };
        };
        let exit_code = process.exit_code().await.unwrap_or_else(|error| {
            tracing::error!(id = %record.id, %error, "the container's process cannot be watched");
            None
        });
        if let Some(exit) = self.recorded_after_all(record).await {
            return exit;
        }
        let Some(exit_code) = exit_code else {
            return lost(record, None);
        };
        let (cgroups, owned) = (Arc::clone(&self.rooms.cgroups), record.clone());
        let oom = blocking(move || {
            let path = cgroups.container_path(&owned.cgroup_parent, owned.id.as_str())?;
            let memory = cgroups.stats(&path)?.memory;
            Ok::<_, ContainerError>(memory.and_then(|memory| memory.oom_kills).unwrap_or(0) > 0)
        });
        let oom = oom.await.unwrap_or_else(|error| {
            tracing::warn!(id = %record.id, %error, "whether it was for want of memory is not known");
            false
        });
        lost(record, Some((exit_code, oom)))
    }
}

pub(super) fn exit_from(status: &Status) -> Exit {
    exit(
        status.started_at_ns,
        status.finished_at_ns,
        status.exit_code,
        status.oom,
    )
}

pub(super) fn recorded(record: &conmon::ExitRecord) -> Exit {
    exit(
        record.started_at_ns,
        record.finished_at_ns,
        record.exit_code,
        record.oom,
    )
}

fn exit(started_at_ns: u64, finished_at_ns: u64, exit_code: i32, oom: bool) -> Exit {
    let time = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    let (started_at_ns, finished_at_ns) = (time(started_at_ns), time(finished_at_ns));
    Exit {
        started_at_ns,
        finished_at_ns,
        exit_code,
        reason: reason(exit_code, oom),
        message: String::new(),
    }
}

fn reason(exit_code: i32, oom: bool) -> Reason {
    match exit_code {
        _ if oom => Reason::OOMKilled,
        0 => Reason::Completed,
        _ => Reason::Error,
    }
}

/// A container whose monitor was killed; `told` is what the kernel says of its end: the exit code, and
/// whether processes of it were killed for want of memory.
fn lost(record: &Record, told: Option<(i32, bool)>) -> Exit {
    let started_at_ns = match record.phase {
        Phase::Running { started_at_ns } => started_at_ns,
        Phase::Making | Phase::Created | Phase::Exited(_) => 0,
    };
    let finished_at_ns = clock::now_ns();
    match told {
        Some((exit_code, oom)) => Exit {
            started_at_ns,
            finished_at_ns,
            exit_code,
            reason: reason(exit_code, oom),
            message: "the container's monitor was killed: its log ends there".to_owned(),
        },
        None => Exit {
            started_at_ns,
            finished_at_ns,
            exit_code: UNKNOWN_EXIT_CODE,
            reason: Reason::MonitorLost,
            message:
                "the container's monitor was killed, so its exit code is not known, and its log \
                      ends there"
                    .to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_word_that_the_kubelet_knows() {
        for (exit_code, oom, reason) in [
            (0, false, "Completed"),
            (1, false, "Error"),
            (137, false, "Error"),
            (137, true, "OOMKilled"),
            (0, true, "OOMKilled"),
        ] {
            assert_eq!(exit(1, 2, exit_code, oom).reason.as_str(), reason);
        }
    }
}
