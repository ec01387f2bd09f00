//! The ends that a command gets as its standard streams.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::pipe2;
use tokio::net::unix::pipe::{Receiver, Sender};

use super::ContainerError;
use super::sources::io_error;

/// What a pipe holds unless it is made larger (pipe(7)); a read finds no more in one.
pub(super) const BYTES: usize = 64 << 10;

/// Of the command's ends: programs open them by name (/dev/stdout), also in a user namespace, where
/// their owner, the node's root, has no id.
const MODE: Mode = Mode::from_bits_truncate(0o666);

/// A pipe: the daemon's end to read from, the command's to write to.
pub(super) fn output() -> Result<(Receiver, OwnedFd), ContainerError> {
    let pipe = || {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fchmod(&write, MODE)?;
        io::Result::Ok((Receiver::from_owned_fd(read)?, write))
    };
    pipe().map_err(io_error(
        "make a pipe for the output of",
        "the command".as_ref(),
    ))
}

/// A pipe: the daemon's end to write to, the command's to read from.
pub(super) fn input() -> Result<(Sender, OwnedFd), ContainerError> {
    let pipe = || {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fchmod(&read, MODE)?;
        io::Result::Ok((Sender::from_owned_fd(write)?, read))
    };
    pipe().map_err(io_error(
        "make a pipe for the input of",
        "the command".as_ref(),
    ))
}

/// What a stream is that nobody asked for.
pub(super) fn null() -> Result<OwnedFd, ContainerError> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(io_error("open", "/dev/null".as_ref()))
}
