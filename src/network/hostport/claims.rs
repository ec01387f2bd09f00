//! Who has which port of the node: claimed before a pod is made, given back when it is stopped.
//! Two pods cannot have the same port of an address they share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Owner;
use super::taken::HostPortTaken;
use crate::network::pod::PortMapping;

/// The claims of all pods, by sandbox id.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<String, Claim>);

/// What one pod has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// `namespace/name` of the pod.
    pub(super) owner: String,
    /// Those with a host port.
    pub(super) mappings: Vec<PortMapping>,
    /// Where they lead; empty until the pod has its addresses.
    pub(super) targets: Vec<Target>,
}

/// An address of a pod and the network it shares with its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The pod's address.
    pub address: IpAddr,
    /// Bits of it that are the network's.
    pub prefix: u8,
}

impl Claims {
    /// Claims the ports for a pod; claiming again replaces what it had.
    ///
    /// # Errors
    /// When another pod, or the pod itself, has one of them already.
    pub(super) fn claim(
        &mut self,
        owner: &Owner<'_>,
        mappings: &[PortMapping],
    ) -> Result<(), HostPortTaken> {
        let mut wanted: Vec<PortMapping> = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
            if wanted.contains(mapping) {
                continue;
            }
            let own = wanted
                .iter()
                .map(|other| (owner.sandbox_id, owner.name, other));
            let others = self.0.iter().filter(|(id, _)| *id != owner.sandbox_id);
            let others = others.flat_map(|(id, claim)| {
                let mappings = claim.mappings.iter();
                mappings.map(move |other| (id.as_str(), claim.owner.as_str(), other))
            });
            let mut all = own.chain(others);
            if let Some((id, name, _)) = all.find(|(_, _, other)| overlap(mapping, other)) {
                return Err(HostPortTaken {
                    port: mapping.host_port,
                    protocol: mapping.protocol.as_str(),
                    host_ip: mapping.host_ip,
                    owner: name.to_owned(),
                    sandbox_id: id.to_owned(),
                });
            }
            wanted.push(mapping.clone());
        }
        self.0.insert(
            owner.sandbox_id.to_owned(),
            Claim {
                owner: owner.name.to_owned(),
                mappings: wanted,
                targets: Vec::new(),
            },
        );
        Ok(())
    }

    /// Says where a pod's ports lead. Whether it has any.
    pub(super) fn lead_to(&mut self, sandbox_id: &str, targets: Vec<Target>) -> bool {
        let claim = self.0.get_mut(sandbox_id);
        claim.map(|claim| claim.targets = targets).is_some()
    }

    /// What a pod has claimed.
    pub(super) fn of(&self, sandbox_id: &str) -> Option<&Claim> {
        self.0.get(sandbox_id)
    }

    /// Gives back what a pod has claimed.
    pub(super) fn release(&mut self, sandbox_id: &str) {
        self.0.remove(sandbox_id);
    }

    /// All claims, by sandbox id.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.0.iter().map(|(id, claim)| (id.as_str(), claim))
    }
}

impl Claim {
    /// Every way into the pod: a mapping and the address it leads to. A mapping without a host
    /// address is for both families, one with an address for its own.
    pub(super) fn ways(&self) -> impl Iterator<Item = (&PortMapping, Target)> {
        self.mappings.iter().flat_map(|mapping| {
            let targets = self.targets.iter().copied();
            targets
                .filter(|target| {
                    let host = mapping.host_ip;
                    host.is_none_or(|host| host.is_ipv4() == target.address.is_ipv4())
                })
                .map(move |target| (mapping, target))
        })
    }
}

/// Whether two mappings want the same port of the same address.
fn overlap(one: &PortMapping, other: &PortMapping) -> bool {
    let addresses = match (one.host_ip, other.host_ip) {
        (Some(one), Some(other)) if one.is_ipv4() == other.is_ipv4() => {
            one == other || one.is_unspecified() || other.is_unspecified()
        }
        (Some(_), Some(_)) => false,
        _ => true,
    };
    addresses && one.protocol == other.protocol && one.host_port == other.host_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::pod::Protocol;

    fn mapping(host_port: u16, protocol: Protocol, host_ip: &str) -> PortMapping {
        PortMapping {
            host_port,
            container_port: 80,
            protocol,
            host_ip: host_ip.parse().ok(),
        }
    }

    fn owner<'a>(sandbox_id: &'a str, name: &'a str) -> Owner<'a> {
        Owner { sandbox_id, name }
    }

    #[test]
    fn a_port_of_an_address_is_one_pods_and_the_error_names_it() {
        use Protocol::{Tcp, Udp};
        let cases = [
            (mapping(80, Tcp, ""), mapping(80, Tcp, ""), true),
            (mapping(80, Tcp, ""), mapping(80, Udp, ""), false),
            (mapping(80, Tcp, ""), mapping(81, Tcp, ""), false),
            (mapping(80, Tcp, ""), mapping(80, Tcp, "10.0.0.1"), true),
            (
                mapping(80, Tcp, "10.0.0.1"),
                mapping(80, Tcp, "fd00::1"),
                false,
            ),
            (
                mapping(80, Tcp, "10.0.0.1"),
                mapping(80, Tcp, "10.0.0.2"),
                false,
            ),
            (
                mapping(80, Tcp, "0.0.0.0"),
                mapping(80, Tcp, "10.0.0.2"),
                true,
            ),
            (mapping(80, Tcp, "::"), mapping(80, Tcp, "0.0.0.0"), false),
            (mapping(0, Tcp, ""), mapping(0, Tcp, ""), false),
        ];
        for (first, second, taken) in cases {
            let mut claims = Claims::default();
            let (one, two) = (owner("a", "default/web"), owner("b", "other/web"));
            claims.claim(&one, std::slice::from_ref(&first)).unwrap();
            let said = claims.claim(&two, std::slice::from_ref(&second));
            assert_eq!(said.is_err(), taken, "{first:?} {second:?}");
            if let Err(said) = said {
                assert!(said.to_string().contains("default/web"), "{said}");
                assert!(claims.of("b").is_none(), "nothing of it is claimed");
                claims.release("a");
                claims.claim(&two, &[second]).unwrap();
            }
        }
    }

    #[test]
    fn a_pod_may_ask_again_and_not_twice_at_once() {
        let mut claims = Claims::default();
        let web = owner("a", "default/web");
        let port = mapping(80, Protocol::Tcp, "");
        claims.claim(&web, &[port.clone(), port.clone()]).unwrap();
        assert_eq!(claims.of("a").unwrap().mappings.len(), 1);
        claims.claim(&web, std::slice::from_ref(&port)).unwrap();
        let elsewhere = PortMapping {
            container_port: 81,
            ..port.clone()
        };
        claims.claim(&web, &[port, elsewhere]).unwrap_err();
    }

    #[test]
    fn a_mapping_leads_to_the_address_of_its_family() {
        let target = |address: &str| Target {
            address: address.parse().unwrap(),
            prefix: 24,
        };
        let mut claims = Claims::default();
        let ports = [
            mapping(1, Protocol::Tcp, ""),
            mapping(2, Protocol::Tcp, "0.0.0.0"),
            mapping(3, Protocol::Udp, "fd00::1"),
        ];
        claims.claim(&owner("a", "default/web"), &ports).unwrap();
        assert!(claims.lead_to("a", vec![target("10.0.0.2"), target("fd00::2")]));
        assert!(!claims.lead_to("b", vec![]));
        let claim = claims.of("a").unwrap();
        let ways: Vec<_> = claim
            .ways()
            .map(|(mapping, target)| (mapping.host_port, target.address.is_ipv4()))
            .collect();
        assert_eq!(ways, [(1, true), (1, false), (2, true), (3, false)]);
    }
}
