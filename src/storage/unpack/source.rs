//! The stream that a layer is read from: read on one thread, hashed and applied on another.
//!
//! Reading verifies and inflates, which takes about as long as the hash and the writes. The hash is on
//! the writing side because it brings a chunk into that processor's cache, from where the kernel then
//! copies it: that saves 4 % of the CPU time of a pull. Larger chunks would not fit there (512 KiB cost
//! a fifth more), smaller ones hand over more often.
//!
//! The chunks that the reading thread fills are the ones that files are written from: the bytes are
//! not copied in between. Four chunks go round, so memory is bounded whatever the layer's size.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use sha2::{Digest, Sha256};

use super::super::LayerLimits;
use super::super::split::writer::Writer;
use super::Fault;

/// Big enough that a hand-over costs nothing beside inflating it.
const CHUNK_BYTES: usize = 128 * 1024;

/// Chunks on their way at once.
pub(super) const CHUNKS: usize = 4;

type Chunk = io::Result<Vec<u8>>;

/// Bytes of a tar, in order.
pub(super) trait Stream {
    /// The bytes that are there; empty only at the end.
    fn peek(&mut self) -> Result<&[u8], Fault>;

    /// Marks the first `count` bytes of what [`Stream::peek`] gave as used, for anything but content.
    fn consume(&mut self, count: usize);

    /// As [`Stream::consume`], for a file's content.
    fn consume_content(&mut self, count: usize);

    /// Fills `buffer` as far as the stream goes; returns how far.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(filled)
    }
}

/// Reads `tar` to its end, or until the other side has hung up.
///
/// `full` takes what was read, `spare` gives used buffers back.
pub(super) fn read(mut tar: impl Read, full: &SyncSender<Chunk>, spare: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
        chunk.clear();
        let read = tar
            .by_ref()
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk);
        let last = read.is_err() || chunk.len() < CHUNK_BYTES;
        let sent = full.send(read.map(|_| chunk)).is_ok();
        if last || !sent {
            return;
        }
    }
}

/// The applying side's view: bytes in order, counted, and checked against the limits. What becomes no
/// file's content goes into the split.
pub(super) struct Source<'a> {
    full: Receiver<Chunk>,
    spare: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    used: usize,
    /// Bytes that came in chunks up to the current one.
    received: u64,
    ended: bool,
    hash: Sha256,
    limits: &'a LayerLimits,
    compressed: &'a AtomicU64,
    pub(super) split: Writer,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        full: Receiver<Chunk>,
        spare: SyncSender<Vec<u8>>,
        limits: &'a LayerLimits,
        compressed: &'a AtomicU64,
        split: Writer,
    ) -> Source<'a> {
        Source {
            full,
            spare,
            chunk: Vec::new(),
            used: 0,
            received: 0,
            ended: false,
            hash: Sha256::new(),
            limits,
            compressed,
            split,
        }
    }

    /// How many bytes have been consumed.
    pub(super) fn offset(&self) -> u64 {
        self.received - (self.chunk.len() - self.used) as u64
    }

    /// The sha256 of all chunks so far, in hex.
    pub(super) fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    fn check_limits(&self) -> Result<(), Fault> {
        let LayerLimits {
            max_bytes,
            max_ratio,
            ratio_floor_bytes,
            ..
        } = *self.limits;
        if self.received > max_bytes {
            return Err(Fault::Limit {
                what: "bytes unpacked",
                limit: max_bytes,
            });
        }
        let compressed = self.compressed.load(Ordering::Relaxed);
        if compressed > 0
            && self.received > ratio_floor_bytes
            && self.received > compressed.saturating_mul(max_ratio)
        {
            return Err(Fault::Limit {
                what: "bytes for each compressed byte",
                limit: max_ratio,
            });
        }
        Ok(())
    }
}

impl Stream for Source<'_> {
    fn peek(&mut self) -> Result<&[u8], Fault> {
        while self.used == self.chunk.len() && !self.ended {
            let old = std::mem::take(&mut self.chunk);
            self.used = 0;
            if old.capacity() > 0 {
                // A reader that has ended needs no buffers any more.
                let _ = self.spare.try_send(old);
            }
            match self.full.recv() {
                Ok(Ok(chunk)) => {
                    self.received += chunk.len() as u64;
                    self.hash.update(&chunk);
                    self.chunk = chunk;
                    self.check_limits()?;
                }
                Ok(Err(error)) => {
                    self.ended = true;
                    return Err(Fault::Read(error));
                }
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.chunk[self.used..])
    }

    fn consume(&mut self, count: usize) {
        let end = self.used + count;
        self.split.raw(&self.chunk[self.used..end]);
        self.used = end;
    }

    fn consume_content(&mut self, count: usize) {
        let end = self.used + count;
        self.split.piece(&self.chunk[self.used..end]);
        self.used = end;
    }
}
