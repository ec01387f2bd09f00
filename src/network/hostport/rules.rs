//! The rules of our table in the kernel's words: expressions that load registers, compare and
//! act (nf_tables.h). `nft list table inet cricket` shows them as text; a test holds both together.

use super::attributes::{List, be32};
use super::table::Set;

/// A chain of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: &'static str,
    /// Where packets come from; `None`: from other chains.
    pub(super) hook: Option<Hook>,
}

/// Where a chain is called, and of what kind it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// Where the pods are looked up.
const HOSTPORTS: &str = "hostports";
/// Where it is decided whether a neighbour's connection came by a host port.
const HAIRPINS: &str = "hairpins";
/// The bit of a packet's mark that says so, from the way in to the way out. A connection that
/// kube-proxy leads from a service's address to the same pod cannot be told from ours by anything
/// else, and must keep its source. kube-proxy's bits are 14 and 15, portmap's is 13.
const BY_HOST_PORT: u32 = 1 << 12;

// enum nf_inet_hooks
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
// enum nf_ip_hook_priorities; kube-proxy and portmap use the same
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;

const fn hook(kind: &'static str, number: u32, priority: i32) -> Option<Hook> {
    Some(Hook {
        kind,
        number,
        priority,
    })
}

/// All chains.
pub(super) const CHAINS: [Chain; 6] = [
    Chain {
        name: HOSTPORTS,
        hook: None,
    },
    Chain {
        name: HAIRPINS,
        hook: None,
    },
    Chain {
        name: "guard",
        hook: hook("filter", PREROUTING, RAW),
    },
    Chain {
        name: "prerouting",
        hook: hook("nat", PREROUTING, DSTNAT),
    },
    Chain {
        name: "output",
        hook: hook("nat", OUTPUT, DSTNAT),
    },
    Chain {
        name: "postrouting",
        hook: hook("nat", POSTROUTING, SRCNAT),
    },
];

// Registers of 16 bytes: the first, the second, the last; of 4 bytes: the second and third of all.
const REG_1: u32 = 1;
const REG_2: u32 = 2;
const REG_4: u32 = 4;
const REG32_01: u32 = 9;
const REG32_02: u32 = 10;
const REG32_05: u32 = 13;
const VERDICT: u32 = 0;

// enum nft_verdicts, nf verdicts
const GOTO: i32 = -4;
const RETURN: i32 = -5;
const DROP: i32 = 0;

// enum nft_meta_keys
const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

// enum nft_ct_keys
const CT_STATUS: u32 = 2;
/// IPS_SRC_NAT | IPS_DST_NAT
const NATTED: u32 = 0x30;
const DST_NAT: u32 = 0x20;

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// RTN_LOCAL
const LOCAL: u32 = 2;
/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// All rules: chain and expressions, in their order.
pub(super) fn rules() -> Vec<(&'static str, List)> {
    vec![
        (HOSTPORTS, dnat(IPV4, true)),
        (HOSTPORTS, dnat(IPV4, false)),
        (HOSTPORTS, dnat(IPV6, true)),
        (HOSTPORTS, dnat(IPV6, false)),
        ("guard", guard()),
        ("prerouting", to_the_node()),
        ("output", not_to_loopback6()),
        ("output", to_the_node()),
        ("postrouting", only_dnatted()),
        ("postrouting", hairpin(IPV4)),
        ("postrouting", hairpin(IPV6)),
        (HAIRPINS, masquerade()),
    ]
}

/// `meta mark set meta mark | … dnat ip to [ip daddr .] meta l4proto . th dport map @…`, and the mark is
/// set when there is such an element, not before.
fn dnat(family: u8, addressed: bool) -> List {
    let mut rule = List::default();
    is_family(&mut rule, family);
    let (set, protocol, port) = match (family, addressed) {
        (IPV4, true) => (Set::Addressed4, REG32_01, REG32_02),
        (IPV4, false) => (Set::Ports4, REG_1, REG32_01),
        (_, true) => (Set::Addressed6, REG_2, REG32_05),
        (_, false) => (Set::Ports6, REG_1, REG32_01),
    };
    if addressed {
        address(&mut rule, family, Field::Destination, REG_1);
    }
    meta(&mut rule, META_L4PROTO, protocol);
    payload(&mut rule, TRANSPORT, (2, 2), port);
    rule.expression("lookup", |data| {
        data.text(1, set.name());
        data.number(2, REG_1);
        data.number(3, REG_1);
    });
    meta(&mut rule, META_MARK, REG_4);
    bitwise(&mut rule, REG_4, !BY_HOST_PORT, BY_HOST_PORT);
    rule.expression("meta", |data| {
        data.number(2, META_MARK);
        data.number(3, REG_4);
    });
    let to_port = if family == IPV4 { REG32_01 } else { REG_2 };
    rule.expression("nat", |data| {
        data.number(1, 1); // NFT_NAT_DNAT
        data.number(2, family.into());
        data.number(3, REG_1);
        data.number(5, to_port);
    });
    rule
}

/// `fib daddr type local goto hostports`
fn to_the_node() -> List {
    let mut rule = List::default();
    rule.expression("fib", |data| {
        data.number(1, REG_1);
        data.number(2, 3); // NFT_FIB_RESULT_ADDRTYPE
        data.number(3, 2); // NFTA_FIB_F_DADDR
    });
    compare(&mut rule, EQUAL, &LOCAL.to_ne_bytes());
    verdict(&mut rule, GOTO, Some(HOSTPORTS));
    rule
}

/// `ip6 daddr ::1 return`
fn not_to_loopback6() -> List {
    let mut rule = List::default();
    is_family(&mut rule, IPV6);
    address(&mut rule, IPV6, Field::Destination, REG_1);
    compare(&mut rule, EQUAL, &std::net::Ipv6Addr::LOCALHOST.octets());
    verdict(&mut rule, RETURN, None);
    rule
}

/// `ct status & (dnat | snat) != dnat return`
fn only_dnatted() -> List {
    let mut rule = List::default();
    rule.expression("ct", |data| {
        data.number(2, CT_STATUS);
        data.number(1, REG_1);
    });
    bitwise(&mut rule, REG_1, NATTED, 0);
    compare(&mut rule, NOT_EQUAL, &DST_NAT.to_ne_bytes());
    verdict(&mut rule, RETURN, None);
    rule
}

/// `ip saddr . ip daddr @hairpins4 goto hairpins`
fn hairpin(family: u8) -> List {
    let mut rule = List::default();
    is_family(&mut rule, family);
    let (set, second) = match family {
        IPV4 => (Set::Hairpins4, REG32_01),
        _ => (Set::Hairpins6, REG_2),
    };
    address(&mut rule, family, Field::Source, REG_1);
    address(&mut rule, family, Field::Destination, second);
    lookup(&mut rule, set);
    verdict(&mut rule, GOTO, Some(HAIRPINS));
    rule
}

/// `meta mark & … != 0 masquerade`
fn masquerade() -> List {
    let mut rule = List::default();
    meta(&mut rule, META_MARK, REG_1);
    bitwise(&mut rule, REG_1, BY_HOST_PORT, 0);
    compare(&mut rule, NOT_EQUAL, &[0; 4]);
    rule.expression("masq", |_| ());
    rule
}

/// `iif != "lo" ip daddr 127.0.0.0/8 drop`
fn guard() -> List {
    let mut rule = List::default();
    meta(&mut rule, META_IIF, REG_1);
    compare(&mut rule, NOT_EQUAL, &LOOPBACK.to_ne_bytes());
    is_family(&mut rule, IPV4);
    payload(&mut rule, NETWORK, (16, 1), REG_1);
    compare(&mut rule, EQUAL, &[127]);
    verdict(&mut rule, DROP, None);
    rule
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

fn compare(rule: &mut List, operator: u32, value: &[u8]) {
    rule.expression("cmp", |data| {
        data.number(1, REG_1);
        data.number(2, operator);
        data.nest(3, |constant| constant.bytes(1, value));
    });
}

/// Four bytes of a register, and with the one and exclusive or with the other.
fn bitwise(rule: &mut List, register: u32, and: u32, xor: u32) {
    rule.expression("bitwise", |data| {
        data.number(1, register);
        data.number(2, register);
        data.number(3, 4);
        data.nest(4, |mask| mask.bytes(1, &and.to_ne_bytes()));
        data.nest(5, |bits| bits.bytes(1, &xor.to_ne_bytes()));
    });
}

fn meta(rule: &mut List, key: u32, register: u32) {
    rule.expression("meta", |data| {
        data.number(2, key);
        data.number(1, register);
    });
}

fn is_family(rule: &mut List, family: u8) {
    meta(rule, META_NFPROTO, REG_1);
    compare(rule, EQUAL, &[family]);
}

enum Field {
    Source,
    Destination,
}

fn address(rule: &mut List, family: u8, field: Field, register: u32) {
    let place = match (family, field) {
        (IPV4, Field::Source) => (12, 4),
        (IPV4, Field::Destination) => (16, 4),
        (_, Field::Source) => (8, 16),
        (_, Field::Destination) => (24, 16),
    };
    payload(rule, NETWORK, place, register);
}

fn payload(rule: &mut List, base: u32, (offset, length): (u32, u32), register: u32) {
    rule.expression("payload", |data| {
        data.number(1, register);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

fn lookup(rule: &mut List, set: Set) {
    rule.expression("lookup", |data| {
        data.text(1, set.name());
        data.number(2, REG_1);
    });
}

fn verdict(rule: &mut List, code: i32, chain: Option<&str>) {
    rule.expression("immediate", |data| {
        data.number(1, VERDICT);
        data.nest(2, |value| {
            value.nest(2, |verdict| {
                verdict.bytes(1, &be32(code.cast_unsigned()));
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    });
}
