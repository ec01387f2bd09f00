//! One connection to systemd for all who call it at the same time, made when it is needed and closed
//! when it is not: systemd tells a connection of every job of the host, and an idle daemon must not
//! wake for that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use super::connection;
use super::message::{Body, Target};

/// The most calls at a time, jobs included: systemd works them off one after the other anyway.
const AT_ONCE: usize = 32;
/// The most orders that wait for the connection; those of callers who have given up are among them.
const QUEUE: usize = 2 * AT_ONCE;

/// Where somebody listens who speaks for systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The socket.
    pub(super) socket: PathBuf,
    /// It is a bus, on which systemd is one of many; else it is systemd itself.
    pub(super) is_bus: bool,
}

/// A method call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) member: &'static str,
    pub(super) body: Body,
    /// The answer names a job, whose end is waited for.
    pub(super) is_job: bool,
}

/// Why a call has not had the wanted outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens.
    Absent(String),
    /// The connection broke; what became of the call is not known.
    Lost(String),
    /// The call was refused.
    Refused { name: String, text: String },
    /// The job has ended otherwise.
    Job { job: String, result: String },
}

/// A call on its way to the connection.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) call: Call,
    /// Closed when the caller has given up.
    pub(super) told: oneshot::Sender<Result<(), Fault>>,
    /// The job that is waited for, once it is known.
    pub(super) job: Arc<OnceLock<String>>,
}

/// The connection, if there is one, and where to make one.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) endpoints: Vec<Endpoint>,
    /// How long an unused connection stays.
    pub(super) idle: Duration,
    link: Mutex<Option<mpsc::Sender<Order>>>,
    turns: Semaphore,
}

impl Bus {
    /// The endpoints are tried in this order.
    pub(super) fn new(endpoints: Vec<Endpoint>, idle: Duration) -> Arc<Bus> {
        Arc::new(Bus {
            endpoints,
            idle,
            link: Mutex::new(None),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// Makes a call and waits for its outcome, for ever: the caller sets the deadline. `job` gets the
    /// job that it waits for.
    pub(super) async fn ask(
        self: &Arc<Self>,
        call: Call,
        job: &Arc<OnceLock<String>>,
    ) -> Result<(), Fault> {
        let lost = || Fault::Lost("the daemon is being stopped".to_owned());
        let _turn = self.turns.acquire().await.map_err(|_| lost())?;
        let (told, outcome) = oneshot::channel();
        let job = Arc::clone(job);
        self.send(Order { call, told, job })?;
        outcome.await.unwrap_or_else(|_| Err(lost()))
    }

    fn send(self: &Arc<Self>, order: Order) -> Result<(), Fault> {
        let mut link = self.link();
        if link.as_ref().is_none_or(mpsc::Sender::is_closed) {
            let (sender, orders) = mpsc::channel(QUEUE);
            tokio::spawn(connection::serve(Arc::clone(self), orders));
            *link = Some(sender);
        }
        let sent = link.as_ref().map(|sender| sender.try_send(order));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Fault::Lost(format!("{QUEUE} calls wait already"))),
        }
    }

    /// For the connection, before it ends: whether nobody has sent an order meanwhile, and from now on
    /// nobody does.
    pub(super) fn retire(&self, orders: &mpsc::Receiver<Order>) -> bool {
        let mut link = self.link();
        if orders.is_empty() {
            *link = None;
        }
        link.is_none()
    }

    /// For the connection, when it has broken: the next call makes another one.
    pub(super) fn break_off(&self) {
        *self.link() = None;
    }

    #[cfg(test)]
    pub(super) fn is_connected(&self) -> bool {
        self.link().is_some()
    }

    fn link(&self) -> MutexGuard<'_, Option<mpsc::Sender<Order>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
