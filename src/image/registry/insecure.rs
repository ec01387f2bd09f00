//! crio.conf's `insecure_registries`: hosts and ranges of addresses.
//!
//! As in CRI-O up to 1.34 (1.35 ignores the key): an entry is `host[:port]` as written in a
//! reference, or a range that one of the host's addresses lies in.

use std::net::IpAddr;
use std::time::Duration;

use super::cidr::Cidr;

/// What the key says. Empty: nothing is insecure but what registries.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InsecureHosts {
    hosts: Vec<String>,
    ranges: Vec<Cidr>,
}

impl InsecureHosts {
    /// Sorts the entries into ranges and hosts.
    pub fn new(entries: &[String]) -> InsecureHosts {
        let mut found = InsecureHosts::default();
        for entry in entries {
            match Cidr::parse(entry) {
                Some(range) => found.ranges.push(range),
                None => found.hosts.push(entry.clone()),
            }
        }
        found
    }

    /// Whether `registry` (host with an optional port) is one. Asks the resolver, for at most
    /// `limit`, where there are ranges; a name without an address is in none.
    pub(super) async fn cover(&self, registry: &str, limit: Duration) -> bool {
        if self.hosts.iter().any(|host| host == registry) {
            return true;
        }
        if self.ranges.is_empty() {
            return false;
        }
        let host = match registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => registry,
        };
        let host = host.trim_matches(['[', ']']);
        let addresses: Vec<IpAddr> = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let asked = tokio::net::lookup_host((host, 0));
                let found = tokio::time::timeout(limit, asked).await;
                found
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|it| it.ip())
                    .collect()
            }
        };
        let mut addresses = addresses.into_iter();
        addresses.any(|address| self.ranges.iter().any(|range| range.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_exact_and_ranges_hold_addresses_and_names() {
        let entries = [
            "reg.io",
            "reg.io:5000",
            "10.0.0.0/8",
            "127.0.0.0/8",
            "fd00::/8",
        ];
        let insecure = InsecureHosts::new(&entries.map(str::to_owned));
        let table = [
            ("reg.io", true),
            ("reg.io:5000", true),
            ("reg.io:5001", false),
            ("sub.reg.io.invalid", false),
            ("10.1.2.3", true),
            ("10.1.2.3:5000", true),
            ("11.1.2.3:5000", false),
            ("[fd00::1]:5000", true),
            ("localhost:5000", true),
            ("no-such-host.invalid", false),
        ];
        for (registry, want) in table {
            let limit = Duration::from_secs(10);
            assert_eq!(insecure.cover(registry, limit).await, want, "{registry}");
        }
        let none = InsecureHosts::new(&[]);
        assert!(!none.cover("127.0.0.1:5000", Duration::from_secs(10)).await);
    }
}
