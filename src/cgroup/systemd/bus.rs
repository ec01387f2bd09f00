//! One connection to systemd for all who call it at the same time, made when it is needed and closed
//! when it is not: systemd tells a connection of every job of the host, and an idle daemon must not
//! wake for that.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::call::{Call, Endpoint, Fault, Order};
use super::connection;
use super::link::Link;

/// The most calls at a time, jobs included: systemd works them off one after the other anyway.
const AT_ONCE: usize = 32;
/// The most orders that wait for the connection; those of callers who have given up are among them.
const QUEUE: usize = 2 * AT_ONCE;

/// See the module.
#[derive(Debug)]
pub(super) struct Bus {
    link: Arc<Link>,
    turns: Semaphore,
}

impl Bus {
    /// The endpoints are tried in this order. An unused connection stays for `idle`.
    pub(super) fn new(endpoints: Vec<Endpoint>, idle: Duration) -> Arc<Bus> {
        Arc::new(Bus {
            link: Arc::new(Link::new(endpoints, idle)),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// Makes a call and waits for its outcome, for ever: the caller sets the deadline. `job` gets the
    /// job that it waits for.
    pub(super) async fn ask(&self, call: Call, job: &Arc<OnceLock<String>>) -> Result<(), Fault> {
        let lost = || Fault::Lost("the daemon is being stopped".to_owned());
        let _turn = self.turns.acquire().await.map_err(|_| lost())?;
        let (told, outcome) = oneshot::channel();
        let job = Arc::clone(job);
        self.send(Order { call, told, job })?;
        outcome.await.unwrap_or_else(|_| Err(lost()))
    }

    fn send(&self, order: Order) -> Result<(), Fault> {
        let mut link = self.link.sender();
        if link.as_ref().is_none_or(mpsc::Sender::is_closed) {
            let (sender, orders) = mpsc::channel(QUEUE);
            tokio::spawn(connection::serve(Arc::clone(&self.link), orders));
            *link = Some(sender);
        }
        let sent = link.as_ref().map(|sender| sender.try_send(order));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Fault::Lost(format!("{QUEUE} calls wait already"))),
        }
    }

    #[cfg(test)]
    pub(super) fn is_connected(&self) -> bool {
        self.link.sender().is_some()
    }

    #[cfg(test)]
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.link.endpoints.clone()
    }
}
