//! Frames between [`crate::Channel`] outside and the agent inside, over a virtio serial port.
//!
//! A frame is kind (1 byte), the command's number (4), length (4, both little-endian), payload. The
//! port stays when the guest boots again, so either side may find the rest of an old frame: the
//! outside sends [`Kind::Sync`] with fresh bytes first and skips all it gets until they come back.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The port's name: `/dev/virtio-ports/…` inside.
pub const PORT: &str = "cricket.agent";
/// The longest payload. Longer output travels in several frames.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Length of what [`Kind::Sync`] carries.
pub const NONCE: usize = 32;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the agent and back, the same bytes: the stream is in step.
    Sync,
    /// To the agent: [`Command`] as JSON.
    Run,
    /// To the agent: bytes for standard input; none: its end.
    In,
    /// To the agent: kill the command and its children.
    Kill,
    /// From the agent: standard output.
    Out,
    /// From the agent: standard error.
    Err,
    /// From the agent: ended, all output was sent; exit code as 4 bytes, 128 + the signal.
    Exit,
}

const KINDS: [Kind; 7] = [
    Kind::Sync,
    Kind::Run,
    Kind::In,
    Kind::Kill,
    Kind::Out,
    Kind::Err,
    Kind::Exit,
];

/// A program to be run inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; the program is looked up in $PATH.
    pub argv: Vec<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Which command it belongs to; the outside counts them.
    pub id: u32,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Writes it with one call, so that frames of several threads do not mix under a lock.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(9 + self.payload.len());
        bytes.push(self.kind as u8);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(&self.payload);
        to.write_all(&bytes)
    }

    /// Reads the next one; `None` at the end of the stream.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut kind = [0];
        if from.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut head = [0; 8];
        from.read_exact(&mut head)?;
        let number = |at: usize| {
            head[at..at + 4]
                .iter()
                .rev()
                .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let (id, length) = (number(0), number(4) as usize);
        let known = KINDS.get(usize::from(kind[0]));
        let Some(kind) = known.filter(|_| length <= MAX_PAYLOAD) else {
            let message = format!("no frame: kind {}, {length} bytes", kind[0]);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Ok(Some(Frame {
            kind: *kind,
            id,
            payload,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let frames = KINDS.map(|kind| Frame {
            kind,
            id: 0xfffe_0001,
            payload: (0..=255).collect(),
        });
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut from).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_stream_that_is_no_frame_is_refused_without_memory_for_it() {
        let cases: [&[u8]; 3] = [
            b"\x07aaaabbbb",
            b"\x01aaaa\xff\xff\xff\x7f",
            b"\x01aaaa\x05\0\0\0abc",
        ];
        for bytes in cases {
            assert!(Frame::read(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }
}
