//! Connections that the kernel remembers. UDP has no end that it could see, so what was sent to a
//! port of the node before it was a pod's, or when it was another pod's, would go on to where it
//! went then. By netlink; the program `conntrack` is not needed.
//!
//! What goes where the port leads now is left alone: a server may be the one who speaks next, and
//! nothing would turn its address into the node's.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockProtocol;

use super::attributes::{GENERAL_HEADER, List, general};
use super::table::number;
use crate::network::netlink::{NESTED, NLM_F_ACK, NLM_F_DUMP, Socket, find};
use crate::network::pod::{PortMapping, Protocol};

/// The subsystem's number in message types (nfnetlink.h).
const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
// enum ctattr_type
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
// enum ctattr_ip, of IPv4
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
/// CTA_FILTER_FLAG of the protocol's number.
const BY_PROTOCOL: u32 = 1 << 3;
/// The same of the port that is talked to.
const BY_PORT: u32 = 1 << 5;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// The most reads of one answer: some million connections.
const MAX_ANSWERS: usize = 1 << 16;
/// The most connections that are ended at a time.
const MAX_ENDED: usize = 1 << 16;

/// UDP ports of the node and where they lead.
#[derive(Debug, Default)]
pub(super) struct Ways(BTreeMap<u16, Vec<Way>>);

/// A port of one address, or of all.
#[derive(Debug, Clone, Copy)]
struct Way {
    host_ip: Option<IpAddr>,
    /// The pod's address and port; `None`: nowhere.
    to: Option<(IpAddr, u16)>,
}

impl Ways {
    /// Says where a port leads; what else is known of it stays.
    pub(super) fn add(&mut self, mapping: &PortMapping, target: Option<IpAddr>) {
        if mapping.protocol == Protocol::Udp && mapping.host_port != 0 {
            let way = Way {
                host_ip: mapping.host_ip,
                to: target.map(|address| (address, mapping.container_port)),
            };
            self.0.entry(mapping.host_port).or_default().push(way);
        }
    }

    /// Whether there is no UDP port.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is known of a port.
    pub(super) fn has(&self, port: u16) -> bool {
        self.0.contains_key(&port)
    }
}

/// Who answers on ports of the node.
#[derive(Debug, Clone, Copy)]
struct Ends<'a> {
    ways: &'a Ways,
    /// Addresses of the node.
    own: &'a [IpAddr],
    /// Addresses of pods to which nothing else leads.
    pods: &'a [IpAddr],
}

/// Forgets what is sent to these ports of the node, or by them to `pods`, and goes elsewhere than
/// they lead.
pub(super) fn forget_astray(ways: &Ways, pods: &[IpAddr]) -> io::Result<()> {
    if ways.is_empty() {
        return Ok(());
    }
    let own = own_addresses()?;
    let ends = Ends {
        ways,
        own: &own,
        pods,
    };
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    for family in [IPV4, IPV6] {
        for connection in connections(&mut socket, family, ends)? {
            let ended = socket.request((DELETE, NLM_F_ACK), &connection, 2, &mut |_, _| ());
            match ended {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                ended => ended?,
            }
        }
    }
    Ok(())
}

fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let all = getifaddrs()?.filter_map(|interface| interface.address);
    let addresses = all.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}

/// The bodies of messages that delete the connections that go astray.
fn connections(socket: &mut Socket, family: u8, ends: Ends<'_>) -> io::Result<Vec<Vec<u8>>> {
    // The kernel chooses since 5.8, older ones do not know the filter and tell all. Each question
    // has it look at all connections, so several ports are one question.
    let mut ports = ends.ways.0.keys();
    let only = ports.next().filter(|_| ports.next().is_none());
    let mut list = List::default();
    list.nest(ORIGINAL, |tuple| {
        tuple.nest(2, |protocol| {
            protocol.bytes(1, &[number(Protocol::Udp)]);
            if let Some(port) = only {
                protocol.bytes(3, &port.to_be_bytes());
            }
        });
    });
    list.nest(FILTER, |filter| {
        let by = BY_PROTOCOL | only.map_or(0, |_| BY_PORT);
        filter.bytes(1, &by.to_ne_bytes());
        filter.bytes(2, &0_u32.to_ne_bytes());
    });
    let question = general(family, 0, list.as_bytes());
    let mut found = Vec::new();
    socket.request((GET, NLM_F_DUMP), &question, MAX_ANSWERS, &mut |_, body| {
        let body = body.get(GENERAL_HEADER..).unwrap_or_default();
        if found.len() < MAX_ENDED
            && goes_astray(body, ends)
            && let Some(deletion) = deletion(family, body)
        {
            found.push(deletion);
        }
    })?;
    Ok(found)
}

fn deletion(family: u8, connection: &[u8]) -> Option<Vec<u8>> {
    let mut list = List::default();
    list.bytes(ORIGINAL | NESTED, find(connection, ORIGINAL)?);
    for kind in [ID, ZONE] {
        if let Some(value) = find(connection, kind) {
            list.bytes(kind, value);
        }
    }
    Some(general(family, 0, list.as_bytes()))
}

/// Whether a connection is UDP, by one of the ports, and goes elsewhere than that leads. One by
/// another address than the node's is no host port's (the port may be a service's), unless it
/// goes to one of the pods. From `::1` no way leads anywhere.
fn goes_astray(connection: &[u8], ends: Ends<'_>) -> bool {
    let judge = || {
        let (original, reply) = (find(connection, ORIGINAL)?, find(connection, REPLY)?);
        let protocol = find(original, 2)?;
        if find(protocol, 1)? != [number(Protocol::Udp)] {
            return None;
        }
        let port = u16::from_be_bytes(find(protocol, 3)?.try_into().ok()?);
        let to = address(find(original, 1)?, DESTINATION)?;
        let from = u16::from_be_bytes(find(find(reply, 2)?, 2)?.try_into().ok()?);
        let end = (address(find(reply, 1)?, SOURCE)?, from);
        let is_loopback = to.is_ipv4() && to.is_loopback();
        let is_ours = is_loopback || ends.own.contains(&to) || ends.pods.contains(&end.0);
        if !is_ours || to == IpAddr::V6(Ipv6Addr::LOCALHOST) {
            return None;
        }
        let ways = ends.ways.0.get(&port)?.iter();
        let mut ways = ways.filter(|way| way.is_by(to)).peekable();
        ways.peek()?;
        Some(!ways.any(|way| way.to == Some(end)))
    };
    judge().unwrap_or(false)
}

impl Way {
    fn is_by(&self, address: IpAddr) -> bool {
        self.host_ip.is_none_or(|host| {
            host == address || (host.is_unspecified() && host.is_ipv4() == address.is_ipv4())
        })
    }
}

/// An address of a connection's end: the attribute's type in IPv4; in IPv6 it is 2 more.
fn address(addresses: &[u8], kind: u16) -> Option<IpAddr> {
    if let Some(v4) = find(addresses, kind) {
        return Some(Ipv4Addr::from(*v4.first_chunk::<4>()?).into());
    }
    Some(Ipv6Addr::from(*find(addresses, kind + 2)?.first_chunk::<16>()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection as the kernel writes it: what is asked, and who answers.
    fn connection(number: u8, asked: (IpAddr, u16), answers: (IpAddr, u16)) -> Vec<u8> {
        let mut list = List::default();
        let mut tuple = |kind, address: IpAddr, is_source: bool, port: u16| {
            list.nest(kind, |tuple| {
                let one = if is_source { SOURCE } else { DESTINATION };
                tuple.nest(1, |ip| match address {
                    IpAddr::V4(address) => ip.bytes(one, &address.octets()),
                    IpAddr::V6(address) => ip.bytes(one + 2, &address.octets()),
                });
                tuple.nest(2, |protocol| {
                    protocol.bytes(1, &[number]);
                    protocol.bytes(if is_source { 2 } else { 3 }, &port.to_be_bytes());
                });
            });
        };
        tuple(ORIGINAL, asked.0, false, asked.1);
        tuple(REPLY, answers.0, true, answers.1);
        list.bytes(ID, &[1, 2, 3, 4]);
        list.as_bytes().to_vec()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn mapping(host_port: u16, protocol: Protocol, host_ip: &str) -> PortMapping {
        PortMapping {
            host_port,
            container_port: 5300,
            protocol,
            host_ip: host_ip.parse().ok(),
        }
    }

    #[test]
    fn what_goes_elsewhere_than_a_port_of_the_node_leads_is_forgotten() {
        let mut ways = Ways::default();
        ways.add(&mapping(53, Protocol::Udp, ""), None);
        ways.add(&mapping(53, Protocol::Udp, ""), Some(ip("10.88.0.2")));
        ways.add(&mapping(54, Protocol::Udp, "192.0.2.7"), None);
        ways.add(&mapping(55, Protocol::Tcp, ""), Some(ip("10.88.0.2")));
        ways.add(&mapping(56, Protocol::Udp, "0.0.0.0"), None);
        ways.add(&mapping(0, Protocol::Udp, ""), None);
        assert!(ways.has(53) && !ways.has(55) && !ways.has(0));
        let own = ["192.0.2.1", "192.0.2.7", "2001:db8::1", "::1"].map(ip);
        let ends = Ends {
            ways: &ways,
            own: &own,
            pods: &[ip("10.88.0.3")],
        };
        for (protocol, asked, answers, goes) in [
            // Without NAT, to another pod, to another port, to where it leads.
            (17, ("192.0.2.1", 53), ("192.0.2.1", 53), true),
            (17, ("192.0.2.1", 53), ("10.88.0.9", 5300), true),
            (17, ("192.0.2.1", 53), ("10.88.0.2", 5301), true),
            (17, ("192.0.2.1", 53), ("10.88.0.2", 5300), false),
            (17, ("127.0.0.8", 53), ("127.0.0.8", 53), true),
            (17, ("2001:db8::1", 53), ("2001:db8::1", 53), true),
            (17, ("::1", 53), ("::1", 53), false),
            // Not the node's, and not ours.
            (17, ("9.9.9.9", 53), ("9.9.9.9", 53), false),
            (17, ("10.96.0.10", 53), ("10.88.0.9", 5300), false),
            (17, ("10.96.0.10", 53), ("10.88.0.3", 5300), true),
            (17, ("192.0.2.1", 5353), ("192.0.2.1", 5353), false),
            (6, ("192.0.2.1", 53), ("192.0.2.1", 53), false),
            (6, ("192.0.2.1", 55), ("192.0.2.1", 55), false),
            // A host address has its port for itself.
            (17, ("192.0.2.7", 54), ("10.88.0.9", 5300), true),
            (17, ("192.0.2.1", 54), ("10.88.0.9", 5300), false),
            (17, ("192.0.2.1", 56), ("10.88.0.9", 5300), true),
            (17, ("2001:db8::1", 56), ("fd00::9", 5300), false),
        ] {
            let end = |(address, port): (&str, u16)| (ip(address), port);
            let one = connection(protocol, end(asked), end(answers));
            let said = goes_astray(&one, ends);
            assert_eq!(said, goes, "{protocol} {asked:?} {answers:?}");
        }
        let whole = connection(17, (ip("192.0.2.1"), 53), (ip("192.0.2.1"), 53));
        let body = deletion(IPV4, &whole).unwrap();
        assert_eq!(find(&body[GENERAL_HEADER..], ID), Some(&[1, 2, 3, 4][..]));
        for cut in 0..whole.len() {
            let cut = &whole[..cut];
            let _any = (goes_astray(cut, ends), deletion(IPV4, cut));
        }
    }
}
