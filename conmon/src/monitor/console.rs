//! Getting the master of a pty from the runtime (OCI's console socket): it connects to a socket of
//! ours and sends the descriptor.

use core::ffi::CStr;

use nostd_sys::{Errno, Fd, SocketKind, accept, bind_and_listen, receive};

/// How far the runtime is.
pub(super) enum Console {
    /// The process has no terminal.
    None,
    /// The runtime is to connect.
    Listening(Fd),
    /// The runtime is to send the descriptor.
    Connected(Fd),
    /// Here it is.
    Master(Fd),
}

impl Console {
    pub(super) fn listen(path: &CStr) -> Result<Self, Errno> {
        bind_and_listen(SocketKind::Stream, path).map(Self::Listening)
    }

    /// What to wait for, if anything.
    pub(super) fn awaited(&self) -> Option<&Fd> {
        match self {
            Self::Listening(fd) | Self::Connected(fd) => Some(fd),
            Self::None | Self::Master(_) => None,
        }
    }

    /// Goes as far as it can without waiting.
    pub(super) fn advance(&mut self) {
        if let Self::Listening(listener) = self
            && let Ok(connection) = accept(listener)
        {
            *self = Self::Connected(connection);
        }
        if let Self::Connected(connection) = self {
            // With the descriptor comes the pty's name, which says nothing outside the container.
            let mut name = [0; 256];
            match receive(connection, &mut name) {
                Ok(mut packet) => {
                    *self = packet.fds[0].take().map_or(Self::None, Self::Master);
                }
                Err(Errno::EAGAIN) => {}
                Err(_) => *self = Self::None,
            }
        }
    }

    /// The master, if it has come.
    pub(super) fn into_master(self) -> Option<Fd> {
        match self {
            Self::Master(fd) => Some(fd),
            Self::None | Self::Listening(_) | Self::Connected(_) => None,
        }
    }
}
