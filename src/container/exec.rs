//! Exec: what its two forms, a collected and a streamed one, have in common.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{Container, ContainerError};

/// Most commands in one container at one time. The monitor serves 64 connections; the rest is for
/// those who watch, start, stop and attach.
pub(super) const MAX_COMMANDS: usize = 48;
/// How long output is still read after the command has ended, when something that it left behind
/// keeps it open.
pub(super) const DRAIN: Duration = Duration::from_millis(500);

/// How many of a kind one container serves at one time.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    max: usize,
}

/// One's turn, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "held, and given back when dropped")] Permit);

type Permit = OwnedSemaphorePermit;

impl Turns {
    pub(super) fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// Waits for a turn until the deadline; for ever without one, in the order of arrival. `None`
    /// when the deadline has passed.
    pub(super) async fn take(&self, deadline: Option<Instant>) -> Option<Turn> {
        let permit = Arc::clone(&self.free).acquire_owned();
        let permit = match deadline {
            Some(deadline) => timeout_at(deadline, permit).await.ok()?,
            None => permit.await,
        };
        // The semaphore is never closed.
        permit.ok().map(Turn)
    }

    pub(super) fn busy(&self, container: &Container) -> ContainerError {
        ContainerError::Busy {
            id: container.record().id.clone(),
            max: self.max,
        }
    }
}

impl Container {
    /// A turn to run a command in the container. While as many run as may, this waits, because
    /// probes come in bursts and a moment later there is room.
    pub(super) async fn turn(&self, deadline: Option<Instant>) -> Result<Turn, ContainerError> {
        let turn = self.commands.take(deadline).await;
        turn.ok_or_else(|| self.commands.busy(self))
    }
}

/// A command must name a program.
pub(super) fn not_empty(command: &[String]) -> Result<(), ContainerError> {
    if command.is_empty() {
        return Err(ContainerError::Invalid {
            field: "cmd".to_owned(),
            problem: "no command is given".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_is_waited_for_until_the_deadline_and_comes_back_when_dropped() {
        let turns = Turns::new(1);
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        let turn = turns.take(soon()).await.unwrap();
        assert!(turns.take(soon()).await.is_none());
        let (taken, ()) = tokio::join!(turns.take(None), async { drop(turn) });
        assert!(taken.is_some());
    }
}
