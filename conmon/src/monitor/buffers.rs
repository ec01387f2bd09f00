//! The buffers: mapped once, of fixed size, given back to the kernel while the monitor is idle.

use conmon::{MAX_CHUNK, MAX_MESSAGE, MAX_PACKET};
use nostd_sys::{Errno, map, release};

/// A pipe's default capacity: a larger read finds no more.
const OUTPUT: usize = 64 * 1024;

/// Takes the records of a whole read of lines of 45 bytes and more, so that one write does.
const RECORDS: usize = 128 * 1024;

/// An output packet with its header.
const REPLY: usize = MAX_CHUNK + 1024;

/// The memory that comes and goes with the work.
pub(super) struct Buffers {
    /// One received packet.
    pub(super) packet: &'static mut [u8],
    /// One read of the container's output, or of a small file.
    pub(super) output: &'static mut [u8],
    /// Log records, or while the container is created what the runtime says on stderr.
    pub(super) records: &'static mut [u8],
    /// One packet to send.
    pub(super) reply: &'static mut [u8],
    /// What the runtime said.
    pub(super) message: &'static mut [u8],
}

impl Buffers {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            packet: map(MAX_PACKET)?,
            output: map(OUTPUT)?,
            records: map(RECORDS)?,
            reply: map(REPLY)?,
            message: map(MAX_MESSAGE)?,
        })
    }

    pub(super) fn release(&mut self) {
        release(self.packet);
        release(self.output);
        release(self.records);
        release(self.reply);
        release(self.message);
    }
}
