//! Our table in the kernel: asked for, read and changed over netlink, without a program.

use std::io;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::attributes::{GENERAL_HEADER, about};
use super::batch::{self, Batch, GET_ELEMENTS, GET_TABLE};
use super::table::{Element, Elements, Set};
use crate::network::netlink::{
    NLM_F_ACK, NLM_F_DUMP, NLMSG_ERROR, Socket, attributes, find, outcome,
};

/// The most reads of one answer: some hundred thousand elements.
const MAX_ANSWERS: usize = 4096;

/// A socket of nf_tables in the daemon's network namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: Socket,
    table: String,
}

impl Kernel {
    /// Opens the socket.
    pub(super) fn open(table: &str) -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        socket.expect_long_messages();
        Ok(Self {
            socket,
            table: table.to_owned(),
        })
    }

    /// By which the kernel says that a change was ours.
    pub(super) fn port(&self) -> io::Result<u32> {
        self.socket.port()
    }

    /// Whether the table is there. A kernel without nf_tables has none.
    pub(super) fn has_table(&mut self) -> io::Result<bool> {
        let body = about(&self.table, |_| ());
        let asked = self
            .socket
            .request((GET_TABLE, NLM_F_ACK), &body, MAX_ANSWERS, &mut |_, _| ());
        match asked.map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
            Ok(()) => Ok(true),
            Err((Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL), _)) => Ok(false),
            Err((_, error)) => Err(error),
        }
    }

    /// What is in the sets.
    pub(super) fn elements(&mut self) -> io::Result<Elements> {
        let mut elements = Elements::new();
        for set in Set::ALL {
            let body = about(&self.table, |list| list.text(2, set.name()));
            let asked = self.socket.request(
                (GET_ELEMENTS, NLM_F_DUMP),
                &body,
                MAX_ANSWERS,
                &mut |_, body| {
                    let body = body.get(GENERAL_HEADER..).unwrap_or_default();
                    let items = find(body, 3).unwrap_or_default();
                    let read = attributes(items).filter_map(|(_, item)| element(item));
                    elements.extend(read.map(|(key, element)| ((set, key), element)));
                },
            );
            match asked {
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                asked => asked?,
            }
        }
        Ok(elements)
    }

    /// Makes the table what it is to be.
    pub(super) fn replace(&mut self, elements: &Elements) -> io::Result<()> {
        self.commit(|batch| batch.replace(elements))
    }

    /// Makes `new` of `old`, which is what there is.
    pub(super) fn change(&mut self, old: &Elements, new: &Elements) -> io::Result<()> {
        self.commit(|batch| batch.change(old, new))
    }

    fn commit(&mut self, fill: impl FnOnce(&mut Batch<'_>)) -> io::Result<()> {
        let table = self.table.clone();
        let mut batch = Batch::begin(&table, self.socket.next_sequence());
        fill(&mut batch);
        let (text, first, last) = batch.end();
        self.socket.used_sequences_until(last);
        self.socket.send(&text)?;
        self.socket.answers(MAX_ANSWERS, &mut |message| {
            if message.kind != NLMSG_ERROR || !(first..=last).contains(&message.sequence) {
                return None;
            }
            // The last is acknowledged; of the others there are only refusals.
            let outcome = outcome(message.body);
            (outcome.is_err() || message.sequence == last).then_some(outcome)
        })
    }
}

/// An element of the kernel's answer.
fn element(item: &[u8]) -> Option<(Vec<u8>, Element)> {
    let value = |kind: u16| Some(find(find(item, kind)?, 1)?.to_vec());
    let sandbox_id = find(item, 6).and_then(batch::comment_of);
    Some((
        value(1)?,
        Element {
            end: value(10),
            value: value(2),
            sandbox_id: sandbox_id.unwrap_or_default().to_owned(),
        },
    ))
}
