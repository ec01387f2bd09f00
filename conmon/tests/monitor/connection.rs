//! The daemon's end of a connection to a monitor.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use conmon::{MAX_PACKET, Reply, Request, Status};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect, recvmsg, sendmsg, setsockopt, socket, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Longer than anything here takes on a slow machine; only a bug waits so long.
const DEADLINE_SECONDS: i64 = 60;

pub fn describe(reply: &Reply<'_>) -> String {
    match reply {
        Reply::Failed {
            step,
            errno,
            runtime_exit_code,
            message,
        } => format!(
            "failed: {step}, errno {errno}, exit code {runtime_exit_code}: {}",
            String::from_utf8_lossy(message)
        ),
        other => format!("{other:?}"),
    }
}

pub fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap()
}

/// The daemon's end of a connection to a monitor.
pub struct Connection(pub OwnedFd);

impl Connection {
    pub fn to(path: &Path) -> Self {
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        let connection = Self(socket);
        connection.set_deadline();
        connection
    }

    pub fn set_deadline(&self) {
        let deadline = TimeVal::seconds(DEADLINE_SECONDS);
        setsockopt(&self.0, sockopt::ReceiveTimeout, &deadline).unwrap();
    }

    pub fn send(&self, request: &Request<'_>) {
        self.send_with(request, &[]);
    }

    pub fn send_with(&self, request: &Request<'_>, fds: &[BorrowedFd<'_>]) {
        let mut packet = vec![0; MAX_PACKET];
        let length = request.encode(&mut packet).unwrap();
        self.send_raw(&packet[..length], fds);
    }

    pub fn send_raw(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) {
        let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if fds.is_empty() {
            &rights[..0]
        } else {
            &rights[..]
        };
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(packet)],
            rights,
            flags,
            None,
        )
        .unwrap();
    }

    /// One packet, empty at the end of the connection, and its descriptors.
    pub fn receive(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut packet = vec![0; MAX_PACKET];
        let mut control = nix::cmsg_space!([i32; 3]);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags).unwrap();
        let mut fds = Vec::new();
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                for number in numbers {
                    fds.push(own(number));
                }
            }
        }
        let length = message.bytes;
        packet.truncate(length);
        (packet, fds)
    }

    pub fn status(&self) -> Status {
        let (packet, _) = self.receive();
        match Reply::decode(&packet).unwrap() {
            Reply::Status(status) => status,
            other => panic!("{}", describe(&other)),
        }
    }
}

#[allow(unsafe_code, reason = "the kernel hands over descriptors as numbers")]
fn own(number: i32) -> OwnedFd {
    // SAFETY: it has just been received, so nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
