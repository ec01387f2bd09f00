//! Following what others do to our table: a `nft flush ruleset`, a firewall that starts again.
//! The kernel tells every change of nf_tables on a socket, and names who has made it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, SockProtocol, recv, setsockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::HostPorts;
use super::attributes::GENERAL_HEADER;
use super::batch::NEW_GENERATION;
use crate::network::netlink::{ANSWER, find, listen, messages};
use crate::sys::readiness;

/// NFNLGRP_NFTABLES as a mask.
const GROUP: u32 = 1 << 6;
/// What the kernel may keep for us: a firewall writes thousands of rules at once.
const RECEIVE_BUFFER: usize = 1 << 20;
/// A change is over when nothing followed for this long.
const QUIET: Duration = Duration::from_millis(50);
/// Whoever changes the table again within this time is answered later each time.
const CALM: Duration = Duration::from_secs(10);
/// The longest that a changed table stays as it is.
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// The most changes that are passed over at once.
const MOST_FORGOTTEN: usize = 1000;
/// How often what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Hears of changes.
#[derive(Debug)]
pub(super) struct Ears {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// Something of ours was touched in the transaction that is being told.
    touched: bool,
}

/// A change that was not ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Who has made it; `None`: there were too many changes to hear all.
    by: Option<String>,
}

impl Ears {
    /// Begins to listen; needs a runtime.
    pub(super) fn open() -> io::Result<Self> {
        let socket = listen(SockProtocol::NetlinkNetFilter, GROUP)?;
        // With less, something may be missed, and the kernel says so.
        let _ = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self {
            socket: readiness::watch(socket, Interest::READABLE)?,
            buffer: vec![0; ANSWER],
            touched: false,
        })
    }

    /// Waits for the next change of `table` by others than `own`.
    async fn change(&mut self, table: &str, own: impl Fn(u32) -> bool) -> io::Result<Change> {
        loop {
            let mut ready = self.socket.readable().await?;
            let read = recv(
                ready.get_inner().as_raw_fd(),
                &mut self.buffer,
                MsgFlags::empty(),
            );
            let read = match read {
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => return Ok(Change { by: None }),
                read => read?,
            };
            let answer = self.buffer.get(..read).unwrap_or_default();
            if let Some(change) = changed(answer, &mut self.touched, table, &own) {
                return Ok(change);
            }
        }
    }

    /// Passes over the changes that are told already.
    async fn forget(&mut self, table: &str, own: impl Fn(u32) -> bool) {
        for _ in 0..MOST_FORGOTTEN {
            if timeout(Duration::ZERO, self.change(table, &own))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// The first foreign change of `table` in an answer. A transaction ends with a message that tells
/// who it was; it may be in a later answer.
fn changed(
    answer: &[u8],
    touched: &mut bool,
    table: &str,
    own: &impl Fn(u32) -> bool,
) -> Option<Change> {
    let mut change = None;
    for message in messages(answer) {
        let body = message.body.get(GENERAL_HEADER..).unwrap_or_default();
        if message.kind == NEW_GENERATION {
            if std::mem::take(touched) && change.is_none() {
                let number =
                    find(body, 2).and_then(|pid| Some(u32::from_be_bytes(pid.try_into().ok()?)));
                let name = String::from_utf8_lossy(find(body, 3).unwrap_or_default());
                let name = name.trim_end_matches('\0');
                let by = format!("`{name}`, process {}", number.unwrap_or_default());
                change = Some(Change { by: Some(by) });
            }
            continue;
        }
        // The first attribute of everything is the table's name.
        let of = find(body, 1).and_then(|name| name.strip_suffix(&[0]));
        *touched |= of == Some(table.as_bytes()) && !own(message.port);
    }
    change
}

/// Puts the table back whenever others have changed it, as long as there are host ports' keepers.
pub(super) async fn follow(keeper: Weak<HostPorts>, mut ears: Ears) {
    let Some(table) = keeper.upgrade().map(|ports| ports.table.clone()) else {
        return;
    };
    let (mut patience, mut last) = (QUIET, None::<Instant>);
    loop {
        let own = |port: u32| keeper.upgrade().is_some_and(|ports| ports.is_own(port));
        let heard = timeout(AGAIN, ears.change(&table, own)).await;
        let Some(ports) = keeper.upgrade() else {
            return;
        };
        match heard {
            Err(_) => {
                ports.settle().await;
                continue;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "changes of nftables are not heard; host ports are kept by looking");
                drop(ports);
                look_now_and_then(&keeper).await;
                return;
            }
            Ok(Ok(change)) => {
                let again = last.is_some_and(|last| last.elapsed() < CALM + patience);
                patience = if again {
                    (patience * 2).min(MOST_PATIENCE)
                } else {
                    QUIET
                };
                sleep(patience).await;
                ears.forget(&table, |port| ports.is_own(port)).await;
                match change.by {
                    Some(by) => ports.put_back(&by).await,
                    None => ports.look().await,
                }
                last = Some(Instant::now());
            }
        }
    }
}

/// What is left where changes cannot be heard.
async fn look_now_and_then(keeper: &Weak<HostPorts>) {
    loop {
        sleep(AGAIN).await;
        let Some(ports) = keeper.upgrade() else {
            return;
        };
        ports.look().await;
    }
}

/// Follows in a task of its own.
pub(super) fn start(ports: &Arc<HostPorts>) -> io::Result<()> {
    let ears = Ears::open()?;
    tokio::spawn(follow(Arc::downgrade(ports), ears));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::hostport::attributes::{List, about};
    use crate::network::netlink::message;

    fn told(kind: u16, port: u32, body: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        message(&mut text, kind, 0, 0, body);
        text[12..16].copy_from_slice(&port.to_ne_bytes());
        text
    }

    fn generation() -> Vec<u8> {
        let mut list = List::default();
        list.number(1, 7);
        list.number(2, 4242);
        list.text(3, "nft");
        told(NEW_GENERATION, 9, &[&[0; 4], list.as_bytes()].concat())
    }

    #[test]
    fn only_others_changes_of_our_table_count_and_the_end_names_them() {
        let own = |port: u32| port == 1;
        let at = |table: &str, port: u32| told((10 << 8) | 2, port, &about(table, |_| ()));
        for (events, heard) in [
            (vec![at("cricket", 9), generation()], true),
            (vec![at("cricket", 1), generation()], false),
            (vec![at("kube-proxy", 9), generation()], false),
            (vec![at("cricket", 9)], false),
            (vec![generation()], false),
        ] {
            let mut touched = false;
            let change = changed(&events.concat(), &mut touched, "cricket", &own);
            let by = Some("`nft`, process 4242".to_owned());
            assert_eq!(change, heard.then_some(Change { by }));
        }
        let mut touched = false;
        assert_eq!(
            changed(&at("cricket", 9), &mut touched, "cricket", &own),
            None
        );
        assert!(changed(&generation(), &mut touched, "cricket", &own).is_some());
        let whole = [at("cricket", 9), generation()].concat();
        for cut in 0..whole.len() {
            let _any = changed(&whole[..cut], &mut false, "cricket", &own);
        }
    }
}
