//! What a pod's interfaces have carried, asked of the kernel over rtnetlink(7).
//!
//! One socket in the daemon's own namespace serves all pods: a request for links can name another
//! namespace by the number that ours knows it by (`IFLA_TARGET_NETNSID`, Linux 4.16). So nothing
//! enters a pod's namespace, no process is needed in it, and nothing of ours keeps it alive.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::NetworkError;
use super::netlink::{NLM_F_ACK, NLM_F_DUMP, Socket, attribute, attributes};

/// The most interfaces of one pod that are told. A pod that may make interfaces can make thousands.
const MAX_INTERFACES: usize = 64;
/// The most answers to one question that are read: some ten thousand interfaces.
const MAX_ANSWERS: usize = 512;

/// struct ifinfomsg
const LINK_HEADER: usize = 16;
/// struct rtgenmsg, padded
const GENERAL_HEADER: usize = 4;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const IFLA_IFNAME: u16 = 3;
const IFLA_STATS64: u16 = 23;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFF_LOOPBACK: u32 = 8;
/// An interface of a pod and what it has carried since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// What the pod has received.
    pub received: Traffic,
    /// What the pod has sent.
    pub sent: Traffic,
}

/// What has gone in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were faulty.
    pub errors: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// The socket to ask by, made at the first question.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Option<Route>>);

impl Counters {
    /// The interfaces of a pinned network namespace but for loopback, in the kernel's order.
    ///
    /// # Errors
    /// When the namespace is not there or the kernel cannot tell.
    pub(super) fn of(&self, netns: &Path) -> Result<Vec<Interface>, NetworkError> {
        let mut route = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = ask(&mut route, netns);
        if asked.is_err() {
            // What the kernel has yet to say to the old question must not answer the next one.
            *route = None;
        }
        asked.map_err(|source| NetworkError::Counters {
            netns: netns.to_owned(),
            source,
        })
    }
}

fn ask(route: &mut Option<Route>, netns: &Path) -> io::Result<Vec<Interface>> {
    let netns = File::open(netns)?;
    let route = match route {
        Some(route) => route,
        None => route.insert(Route::open()?),
    };
    let number = route.namespace(&netns)?;
    let mut body = vec![0; LINK_HEADER];
    attribute(&mut body, IFLA_TARGET_NETNSID, &number.to_ne_bytes());
    let mut interfaces = Vec::new();
    route.request(RTM_GETLINK, NLM_F_DUMP, &body, &mut |kind, body| {
        if kind == RTM_NEWLINK
            && interfaces.len() < MAX_INTERFACES
            && let Some(interface) = link(body)
        {
            interfaces.push(interface);
        }
    })?;
    Ok(interfaces)
}

/// A socket of rtnetlink in the daemon's network namespace.
#[derive(Debug)]
struct Route(Socket);

impl Route {
    fn open() -> io::Result<Route> {
        Ok(Route(Socket::open(SockProtocol::NetlinkRoute)?))
    }

    /// The number by which our namespace knows another; it is given one if it has none yet.
    fn namespace(&mut self, netns: &File) -> io::Result<i32> {
        if let Some(number) = self.known_namespace(netns)? {
            return Ok(number);
        }
        let mut body = question_about(netns);
        attribute(&mut body, NETNSA_NSID, &(-1_i32).to_ne_bytes());
        match self.request(RTM_NEWNSID, NLM_F_ACK, &body, &mut |_, _| ()) {
            // Another process was faster.
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            made => made?,
        }
        self.known_namespace(netns)?
            .ok_or_else(|| io::Error::other("the kernel gives the namespace no number"))
    }

    fn known_namespace(&mut self, netns: &File) -> io::Result<Option<i32>> {
        let mut number = None;
        self.request(
            RTM_GETNSID,
            NLM_F_ACK,
            &question_about(netns),
            &mut |kind, body| {
                if kind == RTM_NEWNSID {
                    number = attributes(body.get(GENERAL_HEADER..).unwrap_or_default())
                        .find(|(kind, _)| *kind == NETNSA_NSID)
                        .and_then(|(_, value)| Some(i32::from_ne_bytes(value.try_into().ok()?)));
                }
            },
        )?;
        Ok(number.filter(|number| *number >= 0))
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.0.request((kind, flags), body, MAX_ANSWERS, take)
    }
}

/// The body of a question about a namespace.
fn question_about(netns: &File) -> Vec<u8> {
    let mut body = vec![0; GENERAL_HEADER];
    attribute(&mut body, NETNSA_FD, &netns.as_raw_fd().to_ne_bytes());
    body
}

/// An interface from the body of an RTM_NEWLINK; `None` for loopback, and for one without
/// counters.
fn link(body: &[u8]) -> Option<Interface> {
    let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
    if flags & IFF_LOOPBACK != 0 {
        return None;
    }
    let (mut name, mut counted) = (None, None);
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFLA_IFNAME => {
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                // An interface's name may be any bytes, the kubelet takes UTF-8 only.
                name = Some(String::from_utf8_lossy(text).into_owned());
            }
            IFLA_STATS64 => counted = traffic(value),
            _ => {}
        }
    }
    let (received, sent) = counted?;
    Some(Interface {
        name: name?,
        received,
        sent,
    })
}

/// struct rtnl_link_stats64: packets, bytes, errors, dropped, each received and sent.
fn traffic(stats: &[u8]) -> Option<(Traffic, Traffic)> {
    let figure = |at: usize| {
        let bytes = stats.get(at * 8..at * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let direction = |first: usize| {
        Some(Traffic {
            packets: figure(first)?,
            bytes: figure(first + 2)?,
            errors: figure(first + 4)?,
            dropped: figure(first + 6)?,
        })
    };
    Some((direction(0)?, direction(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_are_cut_are_none() {
        assert_eq!(link(&[0; 15]), None);
        assert_eq!(link(&[0; 64]), None);
    }

    #[test]
    fn counters_are_taken_from_where_the_kernel_writes_them() {
        let figures = (1..=8_u64).flat_map(u64::to_ne_bytes).collect::<Vec<_>>();
        let (received, sent) = traffic(&figures).unwrap();
        let want = |packets, bytes, errors, dropped| Traffic {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(received, want(1, 3, 5, 7));
        assert_eq!(sent, want(2, 4, 6, 8));
        assert_eq!(traffic(&figures[..60]), None);
    }

    #[test]
    fn the_own_namespace_has_counters_and_a_file_that_is_none_has_not() {
        let counters = Counters::default();
        // Also with no interface but loopback: the answer ends.
        counters.of(Path::new("/proc/self/ns/net")).unwrap();
        for path in ["/proc/self/ns/uts", "/nowhere"] {
            let error = counters.of(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
        counters.of(Path::new("/proc/self/ns/net")).unwrap();
    }
}
