//! Header blocks: names and values, compressed by one zlib stream for a whole connection.
//!
//! Every block of a connection must be inflated, also of a stream that is refused: the next one
//! refers to it. What a block becomes is bounded while it is inflated, not after.

use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

/// What both ends' compressors know beforehand (the SPDY/3 specification, section 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

/// Most bytes that a block may have when inflated.
pub const MAX_INFLATED: usize = 16 * 1024;

/// Most headers in a block.
pub const MAX_HEADERS: usize = 64;

/// A header block that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Not zlib, or of another dictionary.
    #[error("header block cannot be inflated: {0}")]
    Inflate(String),
    /// More than a block may become.
    #[error("header block has more than {MAX_INFLATED} bytes when inflated")]
    TooLarge,
    /// The zlib stream was ended, so no later block could be read.
    #[error("header compression was ended by the client")]
    Ended,
    /// Inflated well, but no list of names and values: what is wrong with it.
    #[error("header block is malformed: {0}")]
    Malformed(&'static str),
}

/// The reading end of a connection's header compression.
#[derive(Debug)]
pub struct Inflater {
    zlib: Decompress,
    inflated: Vec<u8>,
}

impl Inflater {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
            inflated: Vec::new(),
        }
    }

    /// Inflates the connection's next block. After an error but [`HeaderError::Malformed`], no
    /// later block can be read.
    ///
    /// # Errors
    /// A block that is not zlib, or too large.
    pub fn inflate(&mut self, mut block: &[u8]) -> Result<&[u8], HeaderError> {
        // One more than allowed, to tell a full block from a larger one.
        self.inflated.resize(MAX_INFLATED + 1, 0);
        let mut filled = 0;
        loop {
            let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
            let space = &mut self.inflated[filled..];
            let result = self.zlib.decompress(block, space, FlushDecompress::Sync);
            // Both are at most the lengths of what was handed in.
            let consumed = usize::try_from(self.zlib.total_in() - read).unwrap_or(usize::MAX);
            let produced = usize::try_from(self.zlib.total_out() - written).unwrap_or(usize::MAX);
            block = block.get(consumed..).unwrap_or_default();
            filled += produced;
            match result {
                Ok(Status::StreamEnd) => return Err(HeaderError::Ended),
                Ok(_) if filled > MAX_INFLATED => return Err(HeaderError::TooLarge),
                Ok(_) if consumed == 0 && produced == 0 => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(DICTIONARY)
                        .map_err(inflate_error)?;
                }
                Err(error) => return Err(inflate_error(error)),
            }
        }
        if !block.is_empty() {
            return Err(HeaderError::Inflate("bytes are left over".to_owned()));
        }
        Ok(&self.inflated[..filled])
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn inflate_error(error: flate2::DecompressError) -> HeaderError {
    HeaderError::Inflate(error.to_string())
}

/// Names and values, as a client gives them with a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Reads an inflated block.
    ///
    /// # Errors
    /// [`HeaderError::Malformed`]: lengths that do not fit, names that are empty, not in lower case
    /// or there twice, bytes that are no text.
    pub fn parse(mut block: &[u8]) -> Result<Self, HeaderError> {
        let count = take_number(&mut block)?;
        if count > MAX_HEADERS {
            return Err(HeaderError::Malformed("too many headers"));
        }
        let mut headers: Vec<(String, String)> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = take_text(&mut block)?;
            if name.is_empty() {
                return Err(HeaderError::Malformed("a name is empty"));
            }
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(HeaderError::Malformed("a name is not in lower case"));
            }
            if headers.iter().any(|(other, _)| *other == name) {
                return Err(HeaderError::Malformed("a name is there twice"));
            }
            headers.push((name, take_text(&mut block)?));
        }
        if !block.is_empty() {
            return Err(HeaderError::Malformed("bytes follow the last header"));
        }
        Ok(Self(headers))
    }

    /// The first value of a header. Several are joined by NUL.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(other, _)| other == name)?;
        values.split('\0').next()
    }
}

fn take_number(block: &mut &[u8]) -> Result<usize, HeaderError> {
    let (number, rest) = block
        .split_first_chunk::<4>()
        .ok_or(HeaderError::Malformed("it ends too early"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number) as usize)
}

fn take_text(block: &mut &[u8]) -> Result<String, HeaderError> {
    let length = take_number(block)?;
    let (text, rest) = block
        .split_at_checked(length)
        .ok_or(HeaderError::Malformed("it ends too early"))?;
    *block = rest;
    let text = str::from_utf8(text).map_err(|_| HeaderError::Malformed("it is not UTF-8"))?;
    Ok(text.to_owned())
}

/// The writing end of a connection's header compression. A server only ever sends empty lists of
/// headers, so this is no compressor with its 256 KiB of state, but what one without compression
/// would write.
#[derive(Debug, Default)]
pub struct EmptyBlocks {
    begun: bool,
}

impl EmptyBlocks {
    /// zlib head with the dictionary's checksum, then as [`Self::NEXT`].
    const FIRST: &[u8] = b"\x78\xbb\xe3\xc6\xa7\xc2\x00\x04\x00\xfb\xff\0\0\0\0\x00\0\0\xff\xff";

    /// A stored block of the number 0, then the empty stored block of a sync flush: Go's inflater
    /// hands out what it has when it meets one.
    const NEXT: &[u8] = b"\x00\x04\x00\xfb\xff\0\0\0\0\x00\0\0\xff\xff";

    /// The block of the next SYN_REPLY.
    pub fn block(&self) -> &'static [u8] {
        if self.begun { Self::NEXT } else { Self::FIRST }
    }

    /// The block is on its way, the next one follows it.
    pub fn sent(&mut self) {
        self.begun = true;
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
