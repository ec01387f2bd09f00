//! The way from 127.0.0.1 to a pod. The kernel lets nothing with a loopback address out of
//! another interface unless that has `route_localnet` (ip-sysctl), which the portmap plugin and
//! kube-proxy set too. It also lets such packets in; the table's guard drops them.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use nix::net::if_::if_indextoname;
use nix::sys::socket::SockProtocol;

use crate::network::netlink::{NLM_F_ACK, Socket, attribute, find};

const RTM_GETROUTE: u16 = 26;
const RTM_NEWROUTE: u16 = 24;
/// struct rtmsg
const ROUTE_HEADER: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const AF_INET: u8 = 2;
const INTERFACES: &str = "/proc/sys/net/ipv4/conf";

/// Lets packets from loopback go to a pod.
pub(super) fn let_out(pod: Ipv4Addr) -> io::Result<()> {
    let Some(index) = interface_to(pod)? else {
        return Ok(());
    };
    let name = if_indextoname(index)?;
    let name = name.to_string_lossy();
    let switch = Path::new(INTERFACES).join(&*name).join("route_localnet");
    // Writing what is there already costs the kernel a flush of its routes.
    if fs::read_to_string(&switch)?.trim() == "1" {
        return Ok(());
    }
    fs::write(&switch, "1")
}

/// The interface by which an address is reached.
fn interface_to(address: Ipv4Addr) -> io::Result<Option<u32>> {
    let mut body = vec![0; ROUTE_HEADER];
    body[0] = AF_INET;
    body[1] = 32;
    attribute(&mut body, RTA_DST, &address.octets());
    let mut index = None;
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    socket.request((RTM_GETROUTE, NLM_F_ACK), &body, 4, &mut |kind, body| {
        if kind == RTM_NEWROUTE {
            let found = body
                .get(ROUTE_HEADER..)
                .and_then(|body| find(body, RTA_OIF));
            index = found.and_then(|index| Some(u32::from_ne_bytes(index.try_into().ok()?)));
        }
    })?;
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_by_the_first_interface() {
        assert_eq!(interface_to(Ipv4Addr::LOCALHOST).unwrap(), Some(1));
    }
}
