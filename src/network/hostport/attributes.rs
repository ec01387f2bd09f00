//! Bodies of netfilter's messages (linux/netfilter/nfnetlink.h): attributes in lists.

use crate::network::netlink::{NESTED, attribute};

/// Tables of this family see IPv4 and IPv6.
const INET: u8 = 1;
/// Bytes of struct nfgenmsg.
pub(super) const GENERAL_HEADER: usize = 4;

/// Attributes that are being put together.
#[derive(Debug, Default, Clone)]
pub(super) struct List(Vec<u8>);

impl List {
    /// Appends bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        attribute(&mut self.0, kind, value);
    }

    /// Appends a number, as netfilter has them: in network byte order.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &be32(value));
    }

    /// Appends a name.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// Appends a list.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut within = Self::default();
        fill(&mut within);
        self.bytes(kind | NESTED, &within.0);
    }

    /// Appends an expression of a rule.
    pub(super) fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.nest(1, |element| {
            element.text(1, name);
            element.nest(2, fill);
        });
    }

    /// The attributes, written.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(super) fn be32(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// The body of a request about a table.
pub(super) fn about(table: &str, more: impl FnOnce(&mut List)) -> Vec<u8> {
    let mut list = List::default();
    list.text(1, table);
    more(&mut list);
    general(INET, 0, list.as_bytes())
}

/// struct nfgenmsg and what follows.
pub(super) fn general(family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    [&[family, 0, high, low], body].concat()
}
