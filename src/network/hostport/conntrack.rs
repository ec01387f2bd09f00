//! Connections that the kernel remembers. UDP has no end that it could see, so what was sent to a
//! port of the node before it was a pod's, or when it was another pod's, would go on to where it
//! went then. By netlink; the program `conntrack` is not needed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockProtocol;

use super::attributes::{GENERAL_HEADER, List, general};
use super::table::number;
use crate::network::netlink::{NESTED, NLM_F_ACK, NLM_F_DUMP, Socket, find};
use crate::network::pod::Protocol;

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
/// CTA_FILTER_FLAG of the protocol's number and of the port that is talked to.
const BY_PORT: u32 = 1 << 3 | 1 << 5;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// The most reads of one answer: some million connections.
const MAX_ANSWERS: usize = 1 << 16;
/// The most connections that are ended for one port at a time.
const MAX_ENDED: usize = 1 << 16;

/// Forgets what was sent to these UDP ports of the node: to where it went by itself, and to `pods`.
pub(super) fn forget_udp(ports: &[u16], pods: &[IpAddr]) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut ends = pods.to_vec();
    ends.extend(own_addresses()?);
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    for family in [IPV4, IPV6] {
        for port in ports {
            let found = connections(&mut socket, family, *port, &ends)?;
            for connection in found {
                let ended = socket.request((DELETE, NLM_F_ACK), &connection, 2, &mut |_, _| ());
                match ended {
                    // It has ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                    ended => ended?,
                }
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

/// The bodies of messages that delete the connections to a port that one of `ends` answers.
fn connections(
    socket: &mut Socket,
    family: u8,
    port: u16,
    ends: &[IpAddr],
) -> io::Result<Vec<Vec<u8>>> {
    // The kernel chooses since 5.8, older ones do not know the filter and tell all.
    let mut list = List::default();
    list.nest(ORIGINAL, |tuple| {
        tuple.nest(2, |protocol| {
            protocol.bytes(1, &[number(Protocol::Udp)]);
            protocol.bytes(3, &port.to_be_bytes());
        });
    });
    list.nest(FILTER, |filter| {
        filter.bytes(1, &BY_PORT.to_ne_bytes());
        filter.bytes(2, &0_u32.to_ne_bytes());
    });
    let question = general(family, 0, list.as_bytes());
    let mut found = Vec::new();
    socket.request((GET, NLM_F_DUMP), &question, MAX_ANSWERS, &mut |_, body| {
        let body = body.get(GENERAL_HEADER..).unwrap_or_default();
        if found.len() < MAX_ENDED
            && is_to(body, port, ends)
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

/// Whether a connection is UDP, to this port, and answered by one of `ends`, which may be any of
/// 127.0.0.0/8.
fn is_to(connection: &[u8], port: u16, ends: &[IpAddr]) -> bool {
    let judge = || {
        let protocol = find(find(connection, ORIGINAL)?, 2)?;
        let is_udp = find(protocol, 1)? == [number(Protocol::Udp)];
        let is_port = find(protocol, 3)? == port.to_be_bytes();
        let end = source(find(find(connection, REPLY)?, 1)?)?;
        Some(is_udp && is_port && (end.is_loopback() || ends.contains(&end)))
    };
    judge().unwrap_or(false)
}

fn source(addresses: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = find(addresses, 1) {
        return Some(Ipv4Addr::from(*v4.first_chunk::<4>()?).into());
    }
    Some(Ipv6Addr::from(*find(addresses, 3)?.first_chunk::<16>()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection as the kernel writes it.
    fn connection(protocol: u8, port: u16, end: IpAddr) -> Vec<u8> {
        let mut list = List::default();
        list.nest(ORIGINAL, |tuple| {
            tuple.nest(1, |ip| ip.bytes(1, &[10, 0, 0, 9]));
            tuple.nest(2, |number| {
                number.bytes(1, &[protocol]);
                number.bytes(2, &[0x80, 1]);
                number.bytes(3, &port.to_be_bytes());
            });
        });
        list.nest(REPLY, |tuple| {
            tuple.nest(1, |ip| match end {
                IpAddr::V4(end) => ip.bytes(1, &end.octets()),
                IpAddr::V6(end) => ip.bytes(3, &end.octets()),
            });
        });
        list.bytes(ID, &[1, 2, 3, 4]);
        list.as_bytes().to_vec()
    }

    #[test]
    fn only_what_the_node_or_the_pod_has_answered_on_the_port_is_forgotten() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let ends = [ip("192.0.2.1"), ip("fd00::2")];
        for (protocol, port, end, goes) in [
            (17, 53, "192.0.2.1", true),
            (17, 53, "fd00::2", true),
            (17, 53, "127.0.0.1", true),
            (17, 53, "9.9.9.9", false),
            (17, 54, "192.0.2.1", false),
            (6, 53, "192.0.2.1", false),
        ] {
            let one = connection(protocol, port, ip(end));
            assert_eq!(is_to(&one, 53, &ends), goes, "{protocol} {port} {end}");
        }
        let whole = connection(17, 53, ip("192.0.2.1"));
        let body = deletion(IPV4, &whole).unwrap();
        assert_eq!(find(&body[GENERAL_HEADER..], ID), Some(&[1, 2, 3, 4][..]));
        for cut in 0..whole.len() {
            let cut = &whole[..cut];
            let _any = (is_to(cut, 53, &ends), deletion(IPV4, cut));
        }
    }
}
