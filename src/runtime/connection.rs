//! One connection to a monitor: packets of the protocol that the `conmon` library defines.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use conmon::{MAX_PACKET, Reply, Request, SOCKET_NAME};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::RuntimeError;
use crate::sys::readiness;

/// Most descriptors in one packet: stdin, stdout and stderr of an exec'd process.
const MAX_DESCRIPTORS: usize = 3;
/// Room for the largest answer besides attach's output: a message of 4 KiB and its frame.
const ANSWER_BYTES: usize = 8 << 10;

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    /// The decoded packet.
    pub(super) fn reply(&self) -> Result<Reply<'_>, RuntimeError> {
        Reply::decode(&self.0).map_err(RuntimeError::Protocol)
    }
}

impl Connection {
    /// Two connected ends: the daemon's, and the one that a new monitor gets as its stdin.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, monitors) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&own, true)?;
        Ok((Self::register(own)?, monitors))
    }

    /// Connects to the monitor of `bundle`.
    pub(super) fn connect(bundle: &Path) -> io::Result<Self> {
        // Through a descriptor, because a socket's path may have only 107 bytes and a bundle's
        // may have more.
        let directory = File::open(bundle)?;
        let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", directory.as_raw_fd());
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::register(socket)
    }

    fn register(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self {
            socket: readiness::watch(socket, interest)?,
        })
    }

    /// The process that waits at the other end, or that has made both.
    pub(super) fn peer(&self) -> io::Result<i32> {
        let peer = rustix::net::sockopt::socket_peercred(self.socket.get_ref())?;
        Ok(peer.pid.as_raw_nonzero().get())
    }

    /// Sends a request, with descriptors along.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), RuntimeError> {
        let mut packet = vec![0; MAX_PACKET];
        let length = request.encode(&mut packet).map_err(RuntimeError::Request)?;
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |socket| {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                let parts = [IoSlice::new(&packet[..length])];
                let flags = SendFlags::NOSIGNAL;
                Ok(rustix::net::sendmsg(socket, &parts, &mut control, flags)?)
            })
            .await;
        sent.map(drop).map_err(|source| RuntimeError::Monitor {
            step: "send to it",
            source,
        })
    }

    /// Waits for an answer that a descriptor may come with.
    pub(super) async fn receive_descriptor(
        &self,
    ) -> Result<Option<(Answer, Option<OwnedFd>)>, RuntimeError> {
        let received = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                receive_descriptor(socket.as_fd())
            })
            .await;
        match received {
            Ok((answer, _)) if answer.0.is_empty() => Ok(None),
            Ok(received) => Ok(Some(received)),
            Err(source) => Err(unreadable(source)),
        }
    }

    /// Waits for the next answer and puts it into `buffer`; `None` when the monitor has gone.
    pub(super) async fn receive_into<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> Result<Option<Reply<'b>>, RuntimeError> {
        let received = self
            .socket
            .async_io(Interest::READABLE, |socket| {
                Ok(rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?.0)
            })
            .await;
        let length = match received {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                let again =
                    rustix::net::recv(self.socket.get_ref(), &mut *buffer, RecvFlags::empty());
                again.map_or(0, |(length, _)| length)
            }
            received => received.map_err(unreadable)?,
        };
        match buffer.get(..length) {
            None | Some([]) => Ok(None),
            Some(packet) => Reply::decode(packet)
                .map(Some)
                .map_err(RuntimeError::Protocol),
        }
    }

    /// Waits for the next answer; `None` when the monitor has gone.
    pub(super) async fn receive(&self) -> Result<Option<Answer>, RuntimeError> {
        let received = self
            .socket
            .async_io(Interest::READABLE, |socket| receive(socket.as_fd()));
        match received.await {
            Ok(answer) if answer.0.is_empty() => Ok(None),
            Ok(answer) => Ok(Some(answer)),
            // The peer closed without having read all that was sent. What it said before comes
            // after this error: that it takes on no more, for example.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                match receive(self.socket.get_ref().as_fd()) {
                    Ok(answer) if !answer.0.is_empty() => Ok(Some(answer)),
                    Ok(_) | Err(_) => Ok(None),
                }
            }
            Err(source) => Err(unreadable(source)),
        }
    }
}

fn unreadable(source: io::Error) -> RuntimeError {
    RuntimeError::Monitor {
        step: "read its answer",
        source,
    }
}

fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<(Answer, Option<OwnedFd>)> {
    let mut buffer = [0; ANSWER_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((Answer(buffer[..received.bytes].to_vec()), descriptor))
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Answer> {
    let mut buffer = [0; ANSWER_BYTES];
    let (length, _) = rustix::net::recv(socket, &mut buffer, RecvFlags::empty())?;
    Ok(Answer(buffer[..length].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_peer_is_who_listens() {
        let bundle = tempfile::tempdir().unwrap();
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let listener = rustix::net::socket(family, kind, None).unwrap();
        let address = SocketAddrUnix::new(bundle.path().join(SOCKET_NAME)).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let connection = Connection::connect(bundle.path()).unwrap();
        assert_eq!(
            connection.peer().unwrap().cast_unsigned(),
            std::process::id()
        );
    }
}
