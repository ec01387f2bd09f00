//! The orders on their way to the connection, as both its ends see them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::call::{Endpoint, Order};

/// The connection, if there is one, and where to make one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) endpoints: Vec<Endpoint>,
    /// How long an unused connection stays.
    pub(super) idle: Duration,
    sender: Mutex<Option<mpsc::Sender<Order>>>,
}

impl Link {
    pub(super) fn new(endpoints: Vec<Endpoint>, idle: Duration) -> Link {
        Link {
            endpoints,
            idle,
            sender: Mutex::new(None),
        }
    }

    /// For the connection, before it ends: whether nobody has sent an order meanwhile, and from now on
    /// nobody does.
    pub(super) fn retire(&self, orders: &mpsc::Receiver<Order>) -> bool {
        let mut sender = self.sender();
        if orders.is_empty() {
            *sender = None;
        }
        sender.is_none()
    }

    /// For the connection, when it has broken: the next call makes another one.
    pub(super) fn break_off(&self) {
        *self.sender() = None;
    }

    pub(super) fn sender(&self) -> MutexGuard<'_, Option<mpsc::Sender<Order>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
