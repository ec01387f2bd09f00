//! What is said to a pod whose host port another pod has.

use std::fmt;
use std::net::IpAddr;

/// A port of the node that another pod has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host port {port}/{}{} is taken by pod {owner} (sandbox {sandbox_id}); stop that pod or use another port",
    protocol, On(*host_ip)
)]
pub struct HostPortTaken {
    /// The port.
    pub port: u16,
    /// Its transport, in lower case.
    pub protocol: &'static str,
    /// The address of the node it was wanted on.
    pub host_ip: Option<IpAddr>,
    /// `namespace/name` of the pod that has it.
    pub owner: String,
    /// Its sandbox.
    pub sandbox_id: String,
}

struct On(Option<IpAddr>);

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, " on {address}"),
            None => Ok(()),
        }
    }
}
