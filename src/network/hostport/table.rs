//! What is to be in our nftables table: a function of the claims. Pure.
//!
//! ```text
//! prerouting, output ── to an address of the node ──▶ hostports: which pod? ── DNAT
//! postrouting ── came by DNAT, from the pod's neighbour or the node's loopback ──▶ masquerade
//! guard ── from outside to 127.0.0.0/8 ──▶ drop
//! ```
//!
//! The answer to "which pod" is looked up in maps, first by address, protocol and port of the
//! node, then by protocol and port. A neighbour would get the pod's answer directly and not know
//! it, and nobody could answer to 127.0.0.1: their connections are masqueraded. For the latter the
//! way to the pod has `route_localnet` (see `localnet`), which lets in what the guard keeps out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::claims::{Claims, Target};
use crate::network::pod::{PortMapping, Protocol};

/// The sets and maps of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// Protocol and port, on every IPv4 address of the node.
    Ports4,
    /// The same for IPv6.
    Ports6,
    /// Address, protocol and port.
    Addressed4,
    /// The same for IPv6.
    Addressed6,
    /// Who talks to whom so that it has to be masqueraded.
    Hairpins4,
    /// The same for IPv6.
    Hairpins6,
}

impl Set {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::Ports4,
        Self::Ports6,
        Self::Addressed4,
        Self::Addressed6,
        Self::Hairpins4,
        Self::Hairpins6,
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ports4 => "ports4",
            Self::Ports6 => "ports6",
            Self::Addressed4 => "addressed4",
            Self::Addressed6 => "addressed6",
            Self::Hairpins4 => "hairpins4",
            Self::Hairpins6 => "hairpins6",
        }
    }
}

/// What is in the sets: by set and key. Keys and values are as the kernel compares them, each part
/// padded to four bytes.
pub(super) type Elements = BTreeMap<(Set, Vec<u8>), Element>;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// The last key of a range that begins with the key.
    pub(super) end: Option<Vec<u8>>,
    /// What a map answers.
    pub(super) value: Option<Vec<u8>>,
    /// The sandbox that it is for.
    pub(super) sandbox_id: String,
}

/// What is to be in the sets.
pub(super) fn elements(claims: &Claims) -> Elements {
    let mut elements = Elements::new();
    for (id, claim) in claims.all() {
        let mut add = |set: Set, key: Vec<u8>, end: Option<Vec<u8>>, value: Option<Vec<u8>>| {
            let sandbox_id = id.to_owned();
            let element = Element {
                end,
                value,
                sandbox_id,
            };
            // Two pods may have one port of different addresses: the number is there once.
            elements.entry((set, key)).or_insert(element);
        };
        for (mapping, target) in claim.ways() {
            let is_v4 = target.address.is_ipv4();
            let mut key = Vec::with_capacity(24);
            let specific = mapping.host_ip.filter(|ip| !ip.is_unspecified());
            key.extend(specific.map(octets).unwrap_or_default());
            key.extend([number(mapping.protocol), 0, 0, 0]);
            key.extend(padded(mapping.host_port));
            let set = match (specific.is_some(), is_v4) {
                (false, true) => Set::Ports4,
                (false, false) => Set::Ports6,
                (true, true) => Set::Addressed4,
                (true, false) => Set::Addressed6,
            };
            let mut value = octets(target.address);
            value.extend(padded(mapping.container_port));
            add(set, key, None, Some(value));
            let set = if is_v4 {
                Set::Hairpins4
            } else {
                Set::Hairpins6
            };
            for (first, last) in sources(target) {
                let pair = |from: Vec<u8>| [from, octets(target.address)].concat();
                add(set, pair(first), Some(pair(last)), None);
            }
        }
    }
    elements
}

/// The UDP ports of the node that lead somewhere by these elements; where to is left out. Of what
/// others have put there, what cannot be ours is passed over.
pub(super) fn udp_ports(elements: &Elements) -> Vec<PortMapping> {
    let keys = elements.keys();
    keys.filter_map(|(set, key)| udp_port(*set, key)).collect()
}

fn udp_port(set: Set, key: &[u8]) -> Option<PortMapping> {
    let (host_ip, rest): (IpAddr, &[u8]) = match set {
        Set::Ports4 => (Ipv4Addr::UNSPECIFIED.into(), key),
        Set::Ports6 => (Ipv6Addr::UNSPECIFIED.into(), key),
        Set::Addressed4 => {
            let (address, rest) = key.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*address).into(), rest)
        }
        Set::Addressed6 => {
            let (address, rest) = key.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*address).into(), rest)
        }
        Set::Hairpins4 | Set::Hairpins6 => return None,
    };
    let [protocol, _, _, _, high, low, ..] = *rest else {
        return None;
    };
    (protocol == number(Protocol::Udp)).then(|| PortMapping {
        host_port: u16::from_be_bytes([high, low]),
        container_port: 0,
        protocol: Protocol::Udp,
        host_ip: Some(host_ip),
    })
}

/// Who has to be masqueraded on the way to a pod, as first and last address: those on its network,
/// and the node's loopback. There is no way from `::1` to another interface.
fn sources(target: Target) -> Vec<(Vec<u8>, Vec<u8>)> {
    match target.address {
        IpAddr::V4(address) => {
            // A network that has loopback in it is none: then only the pod itself.
            let prefix = if target.prefix < 8 {
                32
            } else {
                target.prefix.min(32)
            };
            let rest = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let own = address.to_bits();
            let range =
                |first: u32, last: u32| (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec());
            vec![
                range(own & !rest, own | rest),
                range(0x7f00_0000, 0x7fff_ffff),
            ]
        }
        IpAddr::V6(address) => {
            let rest = u128::MAX
                .checked_shr(target.prefix.min(128).into())
                .unwrap_or(0);
            let own = address.to_bits();
            let (first, last) = (own & !rest, own | rest);
            vec![(first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec())]
        }
    }
}

/// The protocol's number (IANA).
pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::hostport::Owner;

    #[test]
    fn elements_are_what_the_kernel_compares() {
        let mut claims = Claims::default();
        let owner = Owner {
            sandbox_id: "ab12",
            name: "default/web",
        };
        let mappings = [("", 8080), ("10.1.0.1", 53)].map(|(ip, host_port)| PortMapping {
            host_port,
            container_port: 80,
            protocol: Protocol::Udp,
            host_ip: ip.parse().ok(),
        });
        claims.claim(&owner, &mappings).unwrap();
        assert_eq!(elements(&claims), Elements::new(), "it leads nowhere yet");
        let target = |address: &str, prefix| Target {
            address: address.parse().unwrap(),
            prefix,
        };
        claims.lead_to(
            "ab12",
            vec![target("10.88.77.2", 24), target("fd00::2", 64)],
        );
        let found = elements(&claims);
        let keys = |set: Set| -> Vec<&Vec<u8>> {
            let of = found.keys().filter(|(one, _)| *one == set);
            of.map(|(_, key)| key).collect()
        };
        assert_eq!(keys(Set::Ports4), [&[17, 0, 0, 0, 0x1f, 0x90, 0, 0]]);
        assert_eq!(keys(Set::Ports6), keys(Set::Ports4));
        assert_eq!(
            keys(Set::Addressed4),
            [&[10, 1, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]]
        );
        assert_eq!(keys(Set::Addressed6), Vec::<&Vec<u8>>::new());
        assert_eq!(
            keys(Set::Hairpins4),
            [
                &[10, 88, 77, 0, 10, 88, 77, 2],
                &[127, 0, 0, 0, 10, 88, 77, 2]
            ]
        );
        let element = &found[&(Set::Hairpins4, vec![10, 88, 77, 0, 10, 88, 77, 2])];
        assert_eq!(element.end, Some(vec![10, 88, 77, 255, 10, 88, 77, 2]));
        let element = &found[&(Set::Ports4, vec![17, 0, 0, 0, 0x1f, 0x90, 0, 0])];
        assert_eq!(element.value, Some(vec![10, 88, 77, 2, 0, 80, 0, 0]));
        assert_eq!(keys(Set::Hairpins6).len(), 1);
        let ports = udp_ports(&found);
        let ports: Vec<_> = ports
            .iter()
            .map(|one| (one.host_ip, one.host_port))
            .collect();
        let expected = [("0.0.0.0", 8080), ("::", 8080), ("10.1.0.1", 53)];
        assert_eq!(ports, expected.map(|(ip, port)| (ip.parse().ok(), port)));
        for cut in 0..12 {
            assert_eq!(
                udp_port(Set::Addressed4, &[17; 12][..cut]).is_some(),
                cut >= 10
            );
        }
    }

    #[test]
    fn a_pods_network_never_overlaps_loopback() {
        for prefix in [0, 1, 7, 8, 31, 32, 200] {
            let target = Target {
                address: "10.0.0.7".parse().unwrap(),
                prefix,
            };
            let ranges = sources(target);
            assert!(ranges[0].0 <= vec![10, 0, 0, 7] && ranges[0].1 >= vec![10, 0, 0, 7]);
            assert!(ranges[0].1 < ranges[1].0, "/{prefix}: {ranges:?}");
        }
    }
}
