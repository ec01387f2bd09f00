//! Netlink by hand: messages, attributes, and a socket that asks and hears the answers. What is
//! asked, the modules above know: `counters` of rtnetlink(7), `hostport` of netfilter.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, sendto, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long the kernel may take for an answer, in seconds. It takes microseconds, unless another
/// process holds its lock on the network's configuration.
const PATIENCE: i64 = 5;
/// The longest answer that is read at once: the kernel fills up to 32 KiB.
pub(super) const ANSWER: usize = 32 << 10;
/// The most a message may be long: thousands of host ports.
const SEND_BUFFER: usize = 4 << 20;

/// struct nlmsghdr
pub(super) const HEADER: usize = 16;

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// This attribute has attributes within.
pub(super) const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are the type.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// A socket in the network namespace of the thread that opens it.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    sequence: u32,
    answer: Vec<u8>,
}

impl Socket {
    /// A socket to ask by.
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = open(protocol, SockFlag::SOCK_CLOEXEC, 0)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        setsockopt(&socket, SendTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
            answer: vec![0; ANSWER],
        })
    }

    /// The number by which the kernel names this socket to others.
    pub(super) fn port(&self) -> io::Result<u32> {
        Ok(getsockname::<NetlinkAddr>(self.socket.as_raw_fd())?.pid())
    }

    /// Makes room for messages that are longer than usual.
    pub(super) fn expect_long_messages(&self) {
        // Without it the send fails, and says so.
        let _ = setsockopt(&self.socket, SndBufForce, &SEND_BUFFER);
    }

    /// A sequence number that was not used before.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Notes which sequence numbers were used without [`next_sequence`](Self::next_sequence).
    pub(super) fn used_sequences_until(&mut self, last: u32) {
        self.sequence = last;
    }

    /// Sends one message and gives each answer to `take`, until the kernel says that it was the
    /// last, or `most` reads have not been enough.
    pub(super) fn request(
        &mut self,
        (kind, flags): (u16, u16),
        body: &[u8],
        most: usize,
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut text = Vec::with_capacity(HEADER + body.len());
        message(&mut text, kind, NLM_F_REQUEST | flags, sequence, body);
        self.send(&text)?;
        self.answers(most, &mut |message| {
            if message.sequence != sequence {
                return None;
            }
            match message.kind {
                NLMSG_DONE => Some(Ok(())),
                NLMSG_ERROR => Some(outcome(message.body)),
                kind => {
                    take(kind, message.body);
                    None
                }
            }
        })
    }

    /// Sends messages as they are.
    pub(super) fn send(&self, messages: &[u8]) -> io::Result<()> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(
            self.socket.as_raw_fd(),
            messages,
            &kernel,
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    /// Reads answers until `judge` has an outcome, or `most` reads have not been enough.
    pub(super) fn answers(
        &mut self,
        most: usize,
        judge: &mut dyn FnMut(Message<'_>) -> Option<io::Result<()>>,
    ) -> io::Result<()> {
        for _ in 0..most {
            let read = match recv(self.socket.as_raw_fd(), &mut self.answer, MsgFlags::empty()) {
                Ok(read) => read,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for message in messages(self.answer.get(..read).unwrap_or_default()) {
                if let Some(outcome) = judge(message) {
                    return outcome;
                }
            }
        }
        Err(io::Error::other("the kernel's answer does not end"))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that never waits and hears what the kernel tells these groups (a mask).
pub(super) fn listen(protocol: SockProtocol, groups: u32) -> io::Result<OwnedFd> {
    open(
        protocol,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        groups,
    )
}

fn open(protocol: SockProtocol, flags: SockFlag, groups: u32) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Appends a message.
pub(super) fn message(text: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    text.extend_from_slice(&length.to_ne_bytes());
    text.extend_from_slice(&kind.to_ne_bytes());
    text.extend_from_slice(&flags.to_ne_bytes());
    text.extend_from_slice(&sequence.to_ne_bytes());
    text.extend_from_slice(&[0; 4]);
    text.extend_from_slice(body);
    text.resize(text.len().next_multiple_of(4), 0);
}

/// Appends an attribute.
pub(super) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// struct nlmsgerr: 0, or a negative errno.
pub(super) fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    /// The socket on whose behalf it was sent.
    pub(super) port: u32,
    pub(super) body: &'a [u8],
}

/// The messages of one answer; ends at the first that is not whole.
pub(super) fn messages(mut answer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*answer.first_chunk()?) as usize;
        let body = answer.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?),
            port: u32::from_ne_bytes(answer.get(12..16)?.try_into().ok()?),
            body,
        };
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message, (type, value); ends at the first that is not whole.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_TYPE, value))
    })
}

/// The value of the first attribute of a type.
pub(super) fn find(attributes_of: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(attributes_of);
    all.find_map(|(found, value)| (found == kind).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_cut_or_lie_about_their_length_end_early() {
        let mut answer = Vec::new();
        for (length, kind) in [(20_u32, 16_u16), (18, 3), (4096, 16)] {
            answer.extend_from_slice(&length.to_ne_bytes());
            answer.extend_from_slice(&kind.to_ne_bytes());
            answer.extend_from_slice(&[0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
            answer.extend_from_slice(&[1, 2, 3, 4]);
        }
        let kinds = |bytes: &[u8]| messages(bytes).map(|one| one.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&answer), [16, 3], "the third is not all there");
        for cut in 0..answer.len() {
            assert!(kinds(&answer[..cut]).len() <= 2);
        }
        assert!(
            kinds(&[0; 64]).is_empty(),
            "a message shorter than its header"
        );
        assert_eq!(attributes(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[255; 64]).count(), 0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut body = Vec::new();
        attribute(&mut body, 3 | NESTED, b"abc");
        attribute(&mut body, 4, b"");
        assert_eq!(body.len() % 4, 0);
        let read: Vec<_> = attributes(&body).collect();
        assert_eq!(read, [(3, &b"abc"[..]), (4, &b""[..])]);
        assert_eq!(find(&body, 4), Some(&b""[..]));
        let mut text = Vec::new();
        message(&mut text, 7, 1, 9, &body);
        let one = messages(&text).next().unwrap();
        assert_eq!((one.kind, one.sequence, one.body), (7, 9, body.as_slice()));
    }
}
