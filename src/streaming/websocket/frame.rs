//! WebSocket frames (RFC 6455, section 5) as a server reads and writes them.
//!
//! No library: those keep a whole message in memory, so that either a client's large message is
//! refused or memory has no bound. Here a message comes in pieces, as its bytes arrive, however
//! large it is.

use bytes::{Buf, BytesMut};

/// Most bytes of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;
/// Most bytes before a server's payload: it has no mask.
pub(super) const MAX_HEAD_BYTES: usize = 10;

/// What a frame is, in the low four bits of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    /// More of the message before.
    Continuation = 0,
    /// Begins a message of text.
    Text = 1,
    /// Begins a message of bytes.
    Binary = 2,
    /// The last frame of a side.
    Close = 8,
    /// Asks for a sign of life.
    Ping = 9,
    /// Gives it.
    Pong = 10,
}

/// The reason that a connection is closed with (RFC 6455, section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// All is done.
    Normal = 1000,
    /// The server does not wait any longer.
    GoingAway = 1001,
    /// The client broke a rule of the protocol.
    Protocol = 1002,
    /// What a message holds is not what it must be.
    Data = 1007,
}

/// A rule of the protocol that a client broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Clients must mask (section 5.1).
    #[error("a frame without a mask")]
    Unmasked,
    /// No extension was agreed on (section 5.2).
    #[error("a frame with reserved bits set")]
    Reserved,
    /// An opcode that does not exist.
    #[error("a frame of unknown type {0}")]
    Opcode(u8),
    /// A control frame that is too long, or in parts (section 5.5).
    #[error("a control frame that is too long or fragmented")]
    Control,
    /// The first bit of a 64 bit length is set.
    #[error("a frame of more than 2^63 bytes")]
    Length,
    /// A continuation of nothing, or a message inside another (section 5.4).
    #[error("a message that begins or goes on out of turn")]
    Turn,
}

/// What comes from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Some bytes of a message, perhaps none.
    Data {
        /// The bytes.
        bytes: BytesMut,
        /// They are the first of a message.
        begins: bool,
        /// They are the last of it.
        ends: bool,
    },
    /// To be answered with the same bytes.
    Ping(BytesMut),
    /// The client will not send any more.
    Close,
}

/// Takes frames apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A message has begun and not ended.
    in_message: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    last: bool,
    /// No byte of it was given out.
    fresh: bool,
    remaining: u64,
    /// In the order in which the next payload bytes take them.
    mask: [u8; 4],
}

impl Decoder {
    /// The next piece that is whole in `input`, from which it is taken; `None` when more bytes
    /// are needed.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, FrameError> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match head(input)? {
                    Some(frame) => {
                        self.check_turn(&frame)?;
                        frame
                    }
                    None => return Ok(None),
                },
            };
            match frame.opcode {
                Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                    return Ok(self.data(frame, input));
                }
                Opcode::Close | Opcode::Ping | Opcode::Pong => {
                    // At most 125 bytes, so all of it or nothing.
                    if (input.len() as u64) < frame.remaining {
                        self.frame = Some(frame);
                        return Ok(None);
                    }
                    let bytes = take(frame.remaining, frame.mask, input);
                    match frame.opcode {
                        Opcode::Ping => return Ok(Some(Piece::Ping(bytes))),
                        Opcode::Close => return Ok(Some(Piece::Close)),
                        _ => {}
                    }
                }
            }
        }
    }

    fn check_turn(&mut self, frame: &Frame) -> Result<(), FrameError> {
        let goes_on = match frame.opcode {
            Opcode::Continuation => true,
            Opcode::Text | Opcode::Binary => false,
            Opcode::Close | Opcode::Ping | Opcode::Pong => return Ok(()),
        };
        if goes_on != self.in_message {
            return Err(FrameError::Turn);
        }
        self.in_message = !frame.last;
        Ok(())
    }

    fn data(&mut self, mut frame: Frame, input: &mut BytesMut) -> Option<Piece> {
        let count = frame.remaining.min(input.len() as u64);
        if count == 0 && frame.remaining > 0 {
            self.frame = Some(frame);
            return None;
        }
        let bytes = take(count, frame.mask, input);
        let begins = frame.fresh && frame.opcode != Opcode::Continuation;
        frame.remaining -= count;
        let ends = frame.remaining == 0 && frame.last;
        if frame.remaining > 0 {
            frame.fresh = false;
            frame.mask.rotate_left((count % 4) as usize);
            self.frame = Some(frame);
        }
        Some(Piece::Data {
            bytes,
            begins,
            ends,
        })
    }
}

/// The head of a frame, once all of it is there.
fn head(input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let &[first, second, ..] = input.as_ref() else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => return Err(FrameError::Opcode(other)),
    };
    if second & 0x80 == 0 {
        return Err(FrameError::Unmasked);
    }
    let last = first & 0x80 != 0;
    let short = u64::from(second & 0x7f);
    if opcode as u8 >= 8 && (!last || short > MAX_CONTROL_BYTES) {
        return Err(FrameError::Control);
    }
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if input.len() < 2 + length_bytes + 4 {
        return Ok(None);
    }
    input.advance(2);
    let remaining = match length_bytes {
        2 => u64::from(input.get_u16()),
        8 => input.get_u64(),
        _ => short,
    };
    if remaining >> 63 != 0 {
        return Err(FrameError::Length);
    }
    let mut mask = [0; 4];
    input.copy_to_slice(&mut mask);
    Ok(Some(Frame {
        opcode,
        last,
        fresh: true,
        remaining,
        mask,
    }))
}

/// Takes `count` bytes, which are there, and removes the mask.
fn take(count: u64, mask: [u8; 4], input: &mut BytesMut) -> BytesMut {
    // It is at most the length of `input`.
    let mut bytes = input.split_to(usize::try_from(count).unwrap_or(input.len()));
    let mut chunks = bytes.chunks_exact_mut(8);
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    for chunk in &mut chunks {
        let masked = chunk.try_into().map_or(0, u64::from_ne_bytes);
        chunk.copy_from_slice(&(masked ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    bytes
}

/// Appends the head of a whole message, or of a control frame, of `length` bytes.
pub(super) fn push_head(frame: &mut Vec<u8>, opcode: Opcode, length: usize) {
    const LAST: u8 = 0x80;
    frame.push(LAST | opcode as u8);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend(middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
}

/// A close frame.
pub(super) fn close(code: CloseCode) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_HEAD_BYTES);
    let code = (code as u16).to_be_bytes();
    push_head(&mut frame, Opcode::Close, code.len());
    frame.extend(code);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client sends it.
    fn client(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_head(&mut frame, Opcode::Binary, payload.len());
        frame[0] = first;
        frame[1] |= 0x80;
        frame.extend(mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, FrameError> {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(bytes));
        std::iter::from_fn(|| decoder.next(&mut input).transpose()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_understood() {
        // RFC 6455, section 5.7.
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let whole = |bytes: &[u8]| Piece::Data {
            bytes: bytes.into(),
            begins: true,
            ends: true,
        };
        assert_eq!(pieces(&hello), Ok(vec![whole(b"Hello")]));
        let ping = [
            0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(pieces(&ping), Ok(vec![Piece::Ping(b"Hello"[..].into())]));
        let mut frame = Vec::new();
        push_head(&mut frame, Opcode::Binary, 65536);
        assert_eq!(frame, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        frame.clear();
        push_head(&mut frame, Opcode::Binary, 256);
        assert_eq!(frame, [0x82, 0x7e, 1, 0]);
        assert_eq!(close(CloseCode::Normal), [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn a_broken_rule_is_named() {
        let long = [0; 126];
        for (bytes, error) in [
            (vec![0x82, 0x01, 0], FrameError::Unmasked),
            (client(0xc2, [0; 4], b""), FrameError::Reserved),
            (client(0x83, [0; 4], b""), FrameError::Opcode(3)),
            (client(0x09, [0; 4], b""), FrameError::Control),
            (client(0x89, [0; 4], &long), FrameError::Control),
            (client(0x80, [0; 4], b""), FrameError::Turn),
            (
                [client(2, [0; 4], b"a"), client(2, [0; 4], b"b")].concat(),
                FrameError::Turn,
            ),
            (
                [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat(),
                FrameError::Length,
            ),
        ] {
            assert_eq!(pieces(&bytes), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn a_ping_comes_between_the_parts_of_a_message() {
        let bytes = [
            client(0x02, [1, 2, 3, 4], b"ab"),
            client(0x89, [5, 6, 7, 8], b"p"),
            client(0x8a, [0; 4], b"unasked"),
            client(0x80, [9, 9, 9, 9], b"c"),
            client(0x88, [0; 4], &[3, 0xe8]),
        ];
        let data = |bytes: &[u8], begins, ends| Piece::Data {
            bytes: bytes.into(),
            begins,
            ends,
        };
        let expected = vec![
            data(b"ab", true, false),
            Piece::Ping(b"p"[..].into()),
            data(b"c", false, true),
            Piece::Close,
        ];
        assert_eq!(pieces(&bytes.concat()), Ok(expected));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, max_global_rejects: 0, ..Default::default() })]

        #[test]
        fn a_message_is_the_same_however_it_is_cut(
            payload in proptest::collection::vec(any::<u8>(), 0..70_000),
            mask in any::<[u8; 4]>(),
            cut in 1_usize..5000,
        ) {
            let bytes = client(0x82, mask, &payload);
            let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
            let (mut read, mut ended, mut began) = (Vec::new(), false, 0);
            for part in bytes.chunks(cut) {
                input.extend_from_slice(part);
                while let Some(piece) = decoder.next(&mut input).unwrap() {
                    let Piece::Data { bytes, begins, ends } = piece else { panic!("{piece:?}") };
                    read.extend_from_slice(&bytes);
                    began += u8::from(begins);
                    ended = ends;
                }
            }
            prop_assert!(ended && began == 1 && input.is_empty());
            prop_assert!(read == payload);
        }

        #[test]
        fn garbage_is_an_error_or_waits_for_more_and_keeps_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(&bytes[..]));
            while let Ok(Some(piece)) = decoder.next(&mut input) {
                if let Piece::Data { bytes: data, .. } = piece {
                    prop_assert!(data.len() <= bytes.len());
                }
            }
        }
    }
}
