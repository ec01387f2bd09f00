//! Unix sockets: packets with descriptors.

use core::ffi::CStr;

use crate::arch::number;
use crate::errno::{call, call_again};
use crate::file::{CLOEXEC, NONBLOCK};
use crate::{Errno, Fd};

const AF_UNIX: u16 = 1;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SO_SNDBUF: usize = 7;
const SO_SNDBUFFORCE: usize = 32;

const MSG_CTRUNC: u32 = 0x8;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: usize = 0x40;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;

/// The most descriptors that come with one packet; more are refused.
pub const MAX_PASSED_FDS: usize = 3;

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// A stream of bytes.
    Stream = 1,
    /// Packets, in order, over a connection.
    SeqPacket = 5,
}

/// struct sockaddr_un.
#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

/// A socket with a name in the file system, closed on exec; it does not take connections yet.
///
/// # Errors
/// As socket(2) and bind(2); a path longer than 107 bytes.
pub fn bind(kind: SocketKind, path: &CStr) -> Result<Fd, Errno> {
    let mut address = Address {
        family: AF_UNIX,
        path: [0; 108],
    };
    let bytes = path.to_bytes_with_nul();
    address
        .path
        .get_mut(..bytes.len())
        .ok_or(Errno::ENAMETOOLONG)?
        .copy_from_slice(bytes);
    // SAFETY: socket takes no pointer.
    let socket = unsafe {
        call(
            number::SOCKET,
            [usize::from(AF_UNIX), kind as usize | CLOEXEC | NONBLOCK, 0],
        )
    }
    .map(Fd::from_result)?;
    let args = [
        socket.arg(),
        (&raw const address).expose_provenance(),
        2 + bytes.len(),
    ];
    // SAFETY: the kernel reads as much of the address as the length says, which lies within it.
    unsafe { call(number::BIND, args) }?;
    Ok(socket)
}

/// Takes connections from now on.
///
/// # Errors
/// As listen(2).
pub fn listen(socket: &Fd) -> Result<(), Errno> {
    const BACKLOG: usize = 128;
    // SAFETY: listen takes no pointer.
    unsafe { call(number::LISTEN, [socket.arg(), BACKLOG]) }.map(drop)
}

/// [`bind`] and [`listen`].
///
/// # Errors
/// As theirs.
pub fn bind_and_listen(kind: SocketKind, path: &CStr) -> Result<Fd, Errno> {
    let socket = bind(kind, path)?;
    listen(&socket)?;
    Ok(socket)
}

/// Takes one waiting connection.
///
/// # Errors
/// As accept4(2); [`Errno::EAGAIN`] where none waits.
pub fn accept(listener: &Fd) -> Result<Fd, Errno> {
    // SAFETY: no address is asked for.
    unsafe { call_again(number::ACCEPT4, [listener.arg(), 0, 0, CLOEXEC | NONBLOCK]) }
        .map(Fd::from_result)
}

/// Sets how many bytes may wait for the other end, beyond the system's bound where permitted.
pub fn set_send_buffer(socket: &Fd, bytes: i32) {
    let pointer = (&raw const bytes).expose_provenance();
    for option in [SO_SNDBUFFORCE, SO_SNDBUF] {
        let args = [socket.arg(), 1, option, pointer, size_of::<i32>()];
        // SAFETY: the kernel reads one int. A smaller buffer is no error but a shorter patience.
        if unsafe { call(number::SETSOCKOPT, args) }.is_ok() {
            return;
        }
    }
}

/// What came over a socket.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes; 0 is the end of the connection.
    pub length: usize,
    /// Whether the packet had more bytes or more descriptors than there was room for.
    pub truncated: bool,
    /// The descriptors that came with it, closed on exec.
    pub fds: [Option<Fd>; MAX_PASSED_FDS],
}

/// struct msghdr.
#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    parts: usize,
    part_count: usize,
    control: usize,
    control_length: usize,
    flags: u32,
}

/// struct iovec.
#[repr(C)]
struct Part {
    start: usize,
    length: usize,
}

/// struct cmsghdr of the one control message that is used, with its descriptors.
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    fds: [i32; MAX_PASSED_FDS],
}

const RIGHTS_HEADER: usize = 16;

fn message(parts: &[Part], rights: &mut Rights, control_length: usize) -> Message {
    Message {
        name: 0,
        name_length: 0,
        parts: parts.as_ptr().expose_provenance(),
        part_count: parts.len(),
        control: if control_length == 0 {
            0
        } else {
            (&raw mut *rights).expose_provenance()
        },
        control_length,
        flags: 0,
    }
}

/// Takes one waiting packet, or what of a stream waits, with its descriptors.
///
/// # Errors
/// As recvmsg(2); [`Errno::EAGAIN`] where nothing waits.
pub fn receive(socket: &Fd, buffer: &mut [u8]) -> Result<Packet, Errno> {
    let parts = [Part {
        start: buffer.as_mut_ptr().expose_provenance(),
        length: buffer.len(),
    }];
    let mut rights = Rights {
        length: 0,
        level: 0,
        kind: 0,
        fds: [-1; MAX_PASSED_FDS],
    };
    let room = RIGHTS_HEADER + size_of::<[i32; MAX_PASSED_FDS]>();
    let mut message = message(&parts, &mut rights, room);
    let flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    let args = [socket.arg(), (&raw mut message).expose_provenance(), flags];
    // SAFETY: the message points to the buffer and to the rights with their lengths.
    let length = unsafe { call_again(number::RECVMSG, args) }?;
    // SAFETY: both are live locals; read so because the kernel has written them.
    let (rights, message) = unsafe {
        (
            (&raw const rights).read_volatile(),
            (&raw const message).read_volatile(),
        )
    };
    let mut fds = [const { None }; MAX_PASSED_FDS];
    if message.control_length >= RIGHTS_HEADER
        && (rights.level, rights.kind) == (SOL_SOCKET, SCM_RIGHTS)
    {
        let count = rights.length.saturating_sub(RIGHTS_HEADER) / size_of::<i32>();
        for (place, fd) in fds.iter_mut().zip(rights.fds.into_iter().take(count)) {
            *place = Some(Fd::inherited(fd));
        }
    }
    let truncated = message.flags & (MSG_TRUNC | MSG_CTRUNC) != 0;
    Ok(Packet {
        length,
        truncated,
        fds,
    })
}

/// Sends one packet, with a descriptor where given, without waiting.
///
/// # Errors
/// As sendmsg(2); [`Errno::EAGAIN`] where the other end does not keep up.
pub fn send(socket: &Fd, packet: &[u8], passed: Option<&Fd>) -> Result<(), Errno> {
    let parts = [Part {
        start: packet.as_ptr().expose_provenance(),
        length: packet.len(),
    }];
    let length = RIGHTS_HEADER + size_of::<i32>();
    let mut fds = [-1; MAX_PASSED_FDS];
    fds[0] = passed.map_or(-1, Fd::number);
    let mut rights = Rights {
        length,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds,
    };
    let message = message(
        &parts,
        &mut rights,
        if passed.is_some() { length } else { 0 },
    );
    let flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    let args = [
        socket.arg(),
        (&raw const message).expose_provenance(),
        flags,
    ];
    // SAFETY: the message points to the packet and to the rights with their lengths.
    unsafe { call_again(number::SENDMSG, args) }.map(drop)
}
