//! SPDY/3.1 frames: their bytes to meaning and back. All numbers are big endian.

use thiserror::Error;

/// Length of what every frame begins with.
pub const HEAD_LEN: usize = 8;

/// Longest header block that is taken, as compressed. Those of kubectl's protocols have some 50
/// bytes.
pub const MAX_BLOCK: usize = 16 * 1024;

/// Longest body of a control frame that is read as a whole: a header block and what goes before.
pub const MAX_BODY: usize = MAX_BLOCK + 10;

/// Flag of DATA, SYN_STREAM, SYN_REPLY and HEADERS: the sender's last frame on the stream.
pub const FIN: u8 = 0x01;
const UNIDIRECTIONAL: u8 = 0x02;
const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// A frame that breaks SPDY's rules. The connection cannot go on after it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Another protocol, or garbage.
    #[error("control frame of SPDY version {0}, where only version 3 is spoken")]
    Version(u16),
    /// A control frame whose length its type does not allow.
    #[error("{kind} frame of {length} bytes")]
    Length {
        /// The frame's type, by name.
        kind: &'static str,
        /// What its head says.
        length: usize,
    },
    /// A stream id that a client cannot use.
    #[error("stream id {0}, where a client's ids are odd")]
    StreamId(u32),
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ResetStatus {
    /// The client broke the protocol on this stream.
    ProtocolError = 1,
    /// Data for a stream that was never opened.
    InvalidStream = 2,
    /// Not taken: not asked for, or too many.
    Refused = 3,
    /// No longer wanted.
    Cancel = 5,
    /// Data after the client's FIN.
    AlreadyClosed = 9,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum GoAwayStatus {
    /// It has served its purpose.
    Ok = 0,
    /// The client broke the protocol.
    ProtocolError = 1,
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Bytes of a stream follow.
    Data {
        /// The stream.
        stream: u32,
        /// It is the stream's last frame.
        fin: bool,
        /// Number of bytes that follow.
        length: usize,
    },
    /// Something about the connection or a stream follows.
    Control {
        /// The type's number.
        kind: u16,
        /// The type's flags.
        flags: u8,
        /// Number of bytes that follow.
        length: usize,
    },
}

impl Head {
    /// Reads a head. Only the version is judged: the rest depends on the type.
    ///
    /// # Errors
    /// A control frame of another version.
    pub fn parse(bytes: [u8; HEAD_LEN]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        // 24 bits always fit.
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & CONTROL == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Self::Data {
                stream,
                fin: flags & FIN != 0,
                length,
            });
        }
        match u16::from_be_bytes([a & !CONTROL, b]) {
            VERSION => Ok(Self::Control {
                kind: u16::from_be_bytes([c, d]),
                flags,
                length,
            }),
            version => Err(FrameError::Version(version)),
        }
    }
}

/// A control frame that means something to a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// The client opens a stream.
    SynStream {
        /// Its id.
        stream: u32,
        /// The client sends nothing on it.
        fin: bool,
        /// The client wants nothing on it.
        unidirectional: bool,
        /// Its headers, compressed.
        block: &'a [u8],
    },
    /// Headers that nothing is done with, but that belong to the compressor's context.
    Headers {
        /// Compressed.
        block: &'a [u8],
    },
    /// The client gives a stream up.
    Reset {
        /// The stream.
        stream: u32,
    },
    /// To be sent back, when the id is one of a client's.
    Ping {
        /// Its id.
        id: u32,
    },
    /// The client opens no more streams.
    GoAway,
}

/// How long the body of a control frame may be, checked before it is read. `None`: the type means
/// nothing here and its body, however long, is skipped.
///
/// # Errors
/// A length that the type does not allow.
pub fn body_length(kind: u16, length: usize) -> Result<Option<usize>, FrameError> {
    let (name, allowed) = match kind {
        SYN_STREAM => ("SYN_STREAM", 10..=MAX_BODY),
        SYN_REPLY => ("SYN_REPLY", 4..=MAX_BODY),
        HEADERS => ("HEADERS", 4..=MAX_BODY),
        RST_STREAM => ("RST_STREAM", 8..=8),
        PING => ("PING", 4..=4),
        GOAWAY => ("GOAWAY", 8..=8),
        _ => return Ok(None),
    };
    if allowed.contains(&length) {
        return Ok(Some(length));
    }
    Err(FrameError::Length { kind: name, length })
}

/// Reads a control frame's body, of a length that [`body_length`] allowed.
///
/// # Errors
/// A stream id that a client cannot have opened; a body shorter than the type's.
pub fn parse_control(kind: u16, flags: u8, body: &[u8]) -> Result<Control<'_>, FrameError> {
    let short = FrameError::Length {
        kind: "control",
        length: body.len(),
    };
    let (first, rest) = body.split_first_chunk::<4>().ok_or(short.clone())?;
    let number = u32::from_be_bytes(*first) & 0x7fff_ffff;
    Ok(match kind {
        SYN_STREAM => {
            if number.is_multiple_of(2) {
                return Err(FrameError::StreamId(number));
            }
            Control::SynStream {
                stream: number,
                fin: flags & FIN != 0,
                unidirectional: flags & UNIDIRECTIONAL != 0,
                // After the stream: the one it belongs to, priority and slot, which we do not use.
                block: rest.get(6..).ok_or(short)?,
            }
        }
        RST_STREAM => Control::Reset { stream: number },
        PING => Control::Ping {
            id: u32::from_be_bytes(*first),
        },
        GOAWAY => Control::GoAway,
        _ => Control::Headers { block: rest },
    })
}

/// Head of a DATA frame. `length` is below 2^24.
pub fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD_LEN] {
    let [a, b, c, d] = stream.to_be_bytes();
    let [x, y, z] = length_bytes(length);
    [a & !CONTROL, b, c, d, if fin { FIN } else { 0 }, x, y, z]
}

/// SYN_REPLY with a header block, the permission to send data on a stream.
pub fn syn_reply(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut frame = control_head(SYN_REPLY, 4 + block.len()).to_vec();
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(block);
    frame
}

/// PING, also the answer to one.
pub fn ping(id: u32) -> [u8; 12] {
    let mut frame = [0; 12];
    frame[..8].copy_from_slice(&control_head(PING, 4));
    frame[8..].copy_from_slice(&id.to_be_bytes());
    frame
}

/// RST_STREAM.
pub fn reset(stream: u32, status: ResetStatus) -> [u8; 16] {
    two_numbers(RST_STREAM, stream, status as u32)
}

/// GOAWAY with the last stream that was taken. Clients read nothing after it.
pub fn go_away(last_stream: u32, status: GoAwayStatus) -> [u8; 16] {
    two_numbers(GOAWAY, last_stream, status as u32)
}

fn two_numbers(kind: u16, first: u32, second: u32) -> [u8; 16] {
    let mut frame = [0; 16];
    frame[..8].copy_from_slice(&control_head(kind, 8));
    frame[8..12].copy_from_slice(&first.to_be_bytes());
    frame[12..].copy_from_slice(&second.to_be_bytes());
    frame
}

fn control_head(kind: u16, length: usize) -> [u8; HEAD_LEN] {
    let [v, w] = VERSION.to_be_bytes();
    let [k, l] = kind.to_be_bytes();
    let [x, y, z] = length_bytes(length);
    [CONTROL | v, w, k, l, 0, x, y, z]
}

fn length_bytes(length: usize) -> [u8; 3] {
    debug_assert!(length < 1 << 24, "a frame's length has 24 bits");
    let [.., x, y, z] = length.to_be_bytes();
    [x, y, z]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_have_the_bytes_that_the_protocol_says() {
        assert_eq!(data_head(5, false, 0x01_0203), [0, 0, 0, 5, 0, 1, 2, 3]);
        assert_eq!(
            data_head(0x7fff_ffff, true, 0),
            [0x7f, 0xff, 0xff, 0xff, 1, 0, 0, 0]
        );
        assert_eq!(ping(7), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        assert_eq!(
            reset(3, ResetStatus::Cancel),
            [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]
        );
        assert_eq!(
            go_away(9, GoAwayStatus::Ok),
            [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0]
        );
        assert_eq!(
            syn_reply(1, &[0xaa, 0xbb]),
            [0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 0xaa, 0xbb]
        );
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        assert_eq!(
            Head::parse(data_head(5, true, 77)),
            Ok(Head::Data {
                stream: 5,
                fin: true,
                length: 77
            })
        );
        assert_eq!(
            Head::parse([0x80, 3, 0, 1, 2, 0, 1, 0]),
            Ok(Head::Control {
                kind: 1,
                flags: 2,
                length: 256
            })
        );
        assert_eq!(
            Head::parse([0x80, 2, 0, 1, 0, 0, 0, 10]),
            Err(FrameError::Version(2))
        );
        assert_eq!(
            Head::parse(*b"\xffET / HT"),
            Err(FrameError::Version(0x7f45))
        );
    }

    #[test]
    fn a_control_frame_must_have_a_length_that_its_type_allows() {
        let table = [
            (SYN_STREAM, 9, false),
            (SYN_STREAM, 10, true),
            (SYN_STREAM, MAX_BODY, true),
            (SYN_STREAM, MAX_BODY + 1, false),
            (HEADERS, 3, false),
            (SYN_REPLY, (1 << 24) - 1, false),
            (PING, 3, false),
            (PING, 4, true),
            (PING, 5, false),
            (RST_STREAM, 0, false),
            (RST_STREAM, 8, true),
            (GOAWAY, 4, false),
        ];
        for (kind, length, good) in table {
            assert_eq!(
                body_length(kind, length).is_ok(),
                good,
                "type {kind}, {length} bytes"
            );
        }
        for unknown in [0, 4, 5, 9, 10, 0x1234, u16::MAX] {
            assert_eq!(
                body_length(unknown, (1 << 24) - 1),
                Ok(None),
                "type {unknown}"
            );
        }
    }

    #[test]
    fn a_client_opens_streams_of_odd_ids_only() {
        let body = |id: u32| [&id.to_be_bytes()[..], &[0; 6], b"block"].concat();
        assert_eq!(
            parse_control(SYN_STREAM, FIN, &body(3)),
            Ok(Control::SynStream {
                stream: 3,
                fin: true,
                unidirectional: false,
                block: b"block"
            })
        );
        for id in [0, 2, 0x8000_0000] {
            assert_eq!(
                parse_control(SYN_STREAM, 0, &body(id)),
                Err(FrameError::StreamId(id & 0x7fff_ffff))
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_make_the_parser_panic(
            head: [u8; HEAD_LEN],
            kind in 0_u16..12,
            flags: u8,
            body in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Ok(Head::Control { kind, length, .. }) = Head::parse(head)
                && let Ok(Some(length)) = body_length(kind, length)
            {
                prop_assert!(length <= MAX_BODY);
            }
            let _ = parse_control(kind, flags, &body);
        }
    }
}
