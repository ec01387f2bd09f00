//! Changes of our table as one transaction of nf_tables: all of it happens, or nothing.

use super::attributes::{List, about, general};
use super::rules::{self, CHAINS, Chain};
use super::table::{Element, Elements, Set};
use crate::network::netlink::{NESTED, NLM_F_ACK, NLM_F_REQUEST, message};

/// The subsystem's number in message types (nfnetlink.h).
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// enum nf_tables_msg_types
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
/// Lists the elements of a set.
pub(super) const GET_ELEMENTS: u16 = SUBSYSTEM | 13;
/// Asks whether a table is there.
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
/// Tells which process has changed something.
pub(super) const NEW_GENERATION: u16 = SUBSYSTEM | 15;

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Elements in one message: an attribute has at most 64 KiB.
const CHUNK: usize = 128;
/// What the table says of itself.
const COMMENT: &str = "host ports of pods, kept by cricket: changes are undone";
/// With the byte that ends it.
#[expect(clippy::cast_possible_truncation, reason = "it is shorter than that")]
const COMMENT_LENGTH: u8 = COMMENT.len() as u8 + 1;

// enum nft_set_flags
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const CONCATENATED: u32 = 0x80;

/// nft's numbers of data types, by which it shows keys; six bits each when put together.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;

/// A transaction that is being written.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a str,
    text: Vec<u8>,
    first: u32,
    sequence: u32,
}

impl<'a> Batch<'a> {
    /// Begins one for a table, whose messages are numbered from `sequence` on.
    pub(super) fn begin(table: &'a str, sequence: u32) -> Self {
        let mut text = Vec::new();
        let body = general(0, SUBSYSTEM >> 8, &[]);
        message(&mut text, BATCH_BEGIN, NLM_F_REQUEST, sequence, &body);
        Self {
            table,
            text,
            first: sequence,
            sequence,
        }
    }

    /// Replaces the whole table, whatever there is of it.
    pub(super) fn replace(&mut self, elements: &Elements) {
        let named = about(self.table, |_| ());
        self.add(NEW_TABLE, CREATE, &named);
        self.add(DELETE_TABLE, 0, &named);
        let table = about(self.table, |table| {
            table.number(2, 0);
            let text = [&[0, COMMENT_LENGTH], COMMENT.as_bytes(), &[0]].concat();
            table.bytes(6, &text);
        });
        self.add(NEW_TABLE, CREATE, &table);
        for (number, set) in (1..).zip(Set::ALL) {
            let body = new_set(self.table, set, number);
            self.add(NEW_SET, CREATE, &body);
        }
        for chain in CHAINS {
            let body = new_chain(self.table, chain);
            self.add(NEW_CHAIN, CREATE, &body);
        }
        for (chain, expressions) in rules::rules() {
            let body = about(self.table, |rule| {
                rule.text(2, chain);
                rule.bytes(4 | NESTED, expressions.as_bytes());
            });
            self.add(NEW_RULE, CREATE | APPEND, &body);
        }
        self.elements(NEW_ELEMENT, CREATE, elements.iter());
    }

    /// Makes `new` of `old`.
    pub(super) fn change(&mut self, old: &Elements, new: &Elements) {
        let gone = old
            .iter()
            .filter(|(key, element)| new.get(*key) != Some(*element));
        self.elements(DELETE_ELEMENT, 0, gone);
        let come = new
            .iter()
            .filter(|(key, element)| old.get(*key) != Some(*element));
        self.elements(NEW_ELEMENT, CREATE, come);
    }

    /// The messages, with the first and the last number of those that may be answered.
    pub(super) fn end(mut self) -> (Vec<u8>, u32, u32) {
        let last = self.sequence;
        let body = general(0, SUBSYSTEM >> 8, &[]);
        // The kernel answers to those it refuses, and to the last one that asks for it.
        let ask = about(self.table, |_| ());
        self.add(NEW_TABLE, CREATE | NLM_F_ACK, &ask);
        let acknowledged = last.wrapping_add(1);
        message(
            &mut self.text,
            BATCH_END,
            NLM_F_REQUEST,
            acknowledged.wrapping_add(1),
            &body,
        );
        (self.text, self.first, acknowledged)
    }

    fn add(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        message(
            &mut self.text,
            kind,
            NLM_F_REQUEST | flags,
            self.sequence,
            body,
        );
    }

    fn elements<'e>(
        &mut self,
        kind: u16,
        flags: u16,
        elements: impl Iterator<Item = (&'e (Set, Vec<u8>), &'e Element)>,
    ) {
        let all: Vec<_> = elements.collect();
        for of_set in all.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            for chunk in of_set.chunks(CHUNK) {
                let Some(((set, _), _)) = chunk.first() else {
                    continue;
                };
                let body = about(self.table, |list| {
                    list.text(2, set.name());
                    list.nest(3, |items| {
                        for ((_, key), element) in chunk {
                            items.nest(1, |item| write_element(item, key, element));
                        }
                    });
                });
                self.add(kind, flags, &body);
            }
        }
    }
}

fn write_element(item: &mut List, key: &[u8], element: &Element) {
    item.nest(1, |data| data.bytes(1, key));
    if let Some(value) = &element.value {
        item.nest(2, |data| data.bytes(1, value));
    }
    if let Some(end) = &element.end {
        item.nest(10, |data| data.bytes(1, end));
    }
    // nft's comment: type, length, text with its zero byte. An id is far below 255.
    let id = element.sandbox_id.as_bytes();
    if let Ok(length) = u8::try_from(id.len() + 1) {
        item.bytes(6, &[&[0, length], id, &[0]].concat());
    }
}

/// The sandbox that an element in the kernel's answer says it is for.
pub(super) fn comment_of(userdata: &[u8]) -> Option<&str> {
    let length = usize::from(*userdata.get(1)?);
    let text = userdata.get(2..2 + length)?.strip_suffix(&[0])?;
    std::str::from_utf8(text).ok().filter(|_| userdata[0] == 0)
}

fn new_chain(table: &str, chain: Chain) -> Vec<u8> {
    about(table, |list| {
        list.text(3, chain.name);
        if let Some(hook) = chain.hook {
            list.text(7, hook.kind);
            list.nest(4, |place| {
                place.number(1, hook.number);
                place.number(2, hook.priority.cast_unsigned());
            });
        }
    })
}

fn new_set(table: &str, set: Set, id: u32) -> Vec<u8> {
    let join = |kinds: &[u32]| kinds.iter().fold(0, |all, kind| all << 6 | kind);
    let address = |v4: bool| {
        if v4 {
            (IPV4_ADDRESS, 4)
        } else {
            (IPV6_ADDRESS, 16)
        }
    };
    let (key, length, v4, flags) = match set {
        Set::Ports4 | Set::Ports6 => {
            let v4 = set == Set::Ports4;
            (join(&[PROTOCOL, SERVICE]), 8, Some(v4), MAP)
        }
        Set::Addressed4 | Set::Addressed6 => {
            let v4 = set == Set::Addressed4;
            let (kind, length) = address(v4);
            (join(&[kind, PROTOCOL, SERVICE]), length + 8, Some(v4), MAP)
        }
        Set::Hairpins4 | Set::Hairpins6 => {
            let (kind, length) = address(set == Set::Hairpins4);
            let flags = INTERVAL | CONCATENATED;
            (join(&[kind, kind]), 2 * length, None, flags)
        }
    };
    about(table, |list| {
        list.text(2, set.name());
        list.number(3, flags);
        list.number(4, key);
        list.number(5, length);
        if let Some(v4) = v4 {
            let (kind, length) = address(v4);
            list.number(6, join(&[kind, SERVICE]));
            list.number(7, length + 4);
        }
        list.number(10, id);
        if flags & CONCATENATED != 0 {
            list.nest(9, |description| {
                description.nest(2, |fields| {
                    for _ in 0..2 {
                        fields.nest(1, |field| field.number(1, length / 2));
                    }
                });
            });
        }
    })
}
