//! Starting the container.

use conmon::{Reply, Step};
use nostd_sys::{Stdio, WaitStatus, wall_clock_ns};

use super::clients::{Place, Role};
use super::create::RUNTIME_LOG;
use super::failure::Failure;
use super::{Monitor, runtime};

impl Monitor {
    /// Begins to start the container, or joins whoever has begun.
    pub(super) fn start(&mut self, index: Place) -> Result<(), Failure> {
        // First what was begun: one whose daemon was killed asks again, perhaps after the end and
        // before the record of it.
        if self.started_at_ns != 0 {
            let started_at_ns = self.started_at_ns;
            self.finish_client(index, &Reply::Started { started_at_ns });
            return Ok(());
        }
        if self.starting.is_none() {
            if self.ending.is_some() {
                return Err(Failure::refused(Step::Phase, "the container has ended"));
            }
            let log = runtime::open_log(RUNTIME_LOG)?;
            self.runtime.begin(RUNTIME_LOG, "start").container();
            let (stdin, stdout) = (&self.null, &self.null);
            self.starting = Some(self.runtime.spawn(Stdio {
                stdin,
                stdout,
                stderr: &log,
            })?);
        }
        self.clients.set_role(index, Role::Start);
        Ok(())
    }

    /// The runtime that was to start the container has ended.
    pub(super) fn start_ended(&mut self, status: WaitStatus) {
        self.starting = None;
        if !status.is_success() {
            let failure = runtime::failure(Step::Start, status, RUNTIME_LOG, 0, &mut self.buffers);
            while let Some(index) = self.next_starter() {
                self.fail(index, &failure);
            }
            return;
        }
        // A container may end before its runtime says that it has started.
        let now = wall_clock_ns();
        let started_at_ns = self
            .ending
            .as_ref()
            .map_or(now, |ending| ending.finished_at_ns(now));
        self.started_at_ns = started_at_ns;
        while let Some(index) = self.next_starter() {
            self.finish_client(index, &Reply::Started { started_at_ns });
        }
        if self.ending.is_none() {
            self.tell_watchers();
        }
    }

    fn next_starter(&self) -> Option<Place> {
        self.clients.with_role(|role| role == Role::Start).next()
    }
}
