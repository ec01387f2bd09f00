//! How numbers, strings and lists lie in a packet.
//!
//! Numbers are little endian, of fixed width. Bytes are their length (u32) and themselves. A string
//! is bytes without a NUL, for it becomes an argument or a path. A list is the number of its
//! strings (u32), their length in bytes (u32) and the strings.

use core::fmt;

use crate::{MAX_PACKET, MAX_STRINGS, VERSION};

/// Why a message cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The packet would be longer than [`MAX_PACKET`] or than the buffer given.
    TooLong {
        /// What it would need, in bytes.
        needed: usize,
        /// What there is, in bytes.
        bound: usize,
    },
    /// A string holds a NUL byte, which no argument and no path can.
    NulByte,
    /// A list has more than [`MAX_STRINGS`] strings.
    TooManyStrings {
        /// How many it has.
        count: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { needed, bound } => write!(
                f,
                "message to the container's monitor needs {needed} bytes, the bound is {bound}: \
                 shorten the command line"
            ),
            Self::NulByte => f.write_str("argument or path holds a NUL byte"),
            Self::TooManyStrings { count } => {
                write!(
                    f,
                    "command line has {count} arguments, the bound is {MAX_STRINGS}"
                )
            }
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The packet ends within a field.
    Truncated,
    /// There are bytes after the last field.
    TrailingBytes,
    /// The packet is longer than [`MAX_PACKET`].
    Oversized,
    /// The first byte is another version.
    WrongVersion {
        /// The version found.
        found: u8,
    },
    /// No message of this direction has this kind.
    UnknownKind {
        /// The kind found.
        found: u8,
    },
    /// A field holds a value that it cannot have.
    BadField {
        /// Which one.
        field: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("packet ends within a field"),
            Self::TrailingBytes => f.write_str("packet has bytes after its last field"),
            Self::Oversized => write!(f, "packet is longer than {MAX_PACKET} bytes"),
            Self::WrongVersion { found } => {
                write!(f, "packet has version {found}, this end speaks {VERSION}")
            }
            Self::UnknownKind { found } => write!(f, "packet has the unknown kind {found}"),
            Self::BadField { field } => write!(f, "packet field {field} has an impossible value"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A list of strings: given as a slice on the way out, read from the packet on the way in.
#[derive(Clone, Copy)]
pub struct List<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Slices(&'a [&'a [u8]]),
    /// The strings as they lie in the packet, already checked, and their number.
    Packet(&'a [u8], usize),
}

impl<'a> List<'a> {
    /// No strings.
    pub const EMPTY: List<'static> = List(Source::Slices(&[]));

    /// The list of these strings.
    pub const fn new(strings: &'a [&'a [u8]]) -> Self {
        Self(Source::Slices(strings))
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Slices(slices) => slices.len(),
            Source::Packet(_, count) => count,
        }
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings.
    pub fn iter(&self) -> ListIter<'a> {
        ListIter(self.0)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(<[u8]>::utf8_chunks))
            .finish()
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for List<'_> {}

impl<'a> IntoIterator for &List<'a> {
    type Item = &'a [u8];
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

/// The strings of a [`List`].
#[derive(Clone)]
pub struct ListIter<'a>(Source<'a>);

impl fmt::Debug for ListIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        List(self.0).fmt(f)
    }
}

impl<'a> Iterator for ListIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match &mut self.0 {
            Source::Slices(slices) => {
                let (first, rest) = slices.split_first()?;
                *slices = rest;
                Some(first)
            }
            Source::Packet(bytes, count) => {
                let mut reader = Reader(bytes);
                let string = reader.string("list").ok()?;
                *bytes = reader.0;
                *count = count.saturating_sub(1);
                Some(string)
            }
        }
    }
}

/// Writes fields into a packet; counts on beyond its end, so that the error can say what is needed.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    needed: usize,
    error: Option<EncodeError>,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(buffer: &'b mut [u8], kind: u8) -> Self {
        let mut writer = Self {
            buffer,
            needed: 0,
            error: None,
        };
        writer.u8(VERSION);
        writer.u8(kind);
        writer
    }

    pub(crate) fn finish(self) -> Result<usize, EncodeError> {
        let bound = self.buffer.len().min(MAX_PACKET);
        match self.error {
            Some(error) => Err(error),
            None if self.needed > bound => Err(EncodeError::TooLong {
                needed: self.needed,
                bound,
            }),
            None => Ok(self.needed),
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        let end = self.needed.saturating_add(bytes.len());
        if let Some(room) = self.buffer.get_mut(self.needed..end) {
            room.copy_from_slice(bytes);
        }
        self.needed = end;
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// A length or count. One that does not fit u32 cannot fit the packet either: `finish` fails.
    fn length(&mut self, value: usize) {
        self.raw(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn string(&mut self, string: &[u8]) {
        if string.contains(&0) {
            self.error = Some(EncodeError::NulByte);
        }
        self.bytes(string);
    }

    pub(crate) fn list(&mut self, list: &List<'_>) {
        if list.len() > MAX_STRINGS {
            self.error = Some(EncodeError::TooManyStrings { count: list.len() });
        }
        self.length(list.len());
        self.length(
            list.iter()
                .map(|string| string.len() + STRING_OVERHEAD)
                .sum(),
        );
        for string in list {
            self.string(string);
        }
    }
}

/// What a string takes in a packet beyond its own bytes: its length.
const STRING_OVERHEAD: usize = 4;

/// Reads fields from a packet.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The reader behind the packet's version and kind, and the kind.
    pub(crate) fn new(packet: &'a [u8]) -> Result<(Self, u8), DecodeError> {
        if packet.len() > MAX_PACKET {
            return Err(DecodeError::Oversized);
        }
        let mut reader = Self(packet);
        match reader.u8()? {
            VERSION => {}
            found => return Err(DecodeError::WrongVersion { found }),
        }
        let kind = reader.u8()?;
        Ok((reader, kind))
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [value] = self.array()?;
        Ok(value)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadField { field }),
        }
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| DecodeError::Truncated)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let string = self.bytes()?;
        if string.contains(&0) {
            return Err(DecodeError::BadField { field });
        }
        Ok(string)
    }

    pub(crate) fn list(&mut self, field: &'static str) -> Result<List<'a>, DecodeError> {
        let count = self.length()?;
        if count > MAX_STRINGS {
            return Err(DecodeError::BadField { field });
        }
        let strings = self.bytes()?;
        let mut reader = Reader(strings);
        for _ in 0..count {
            reader.string(field)?;
        }
        reader.finish()?;
        Ok(List(Source::Packet(strings, count)))
    }
}
