//! What a directory cannot give back of the tar that it was unpacked from.
//!
//! While a layer is unpacked, everything of its tar that does not become a file's content (headers,
//! PAX and GNU records, padding, whiteouts and what they carry, the end marker) is kept beside it in
//! `tar-split.zst`, and for each piece of content the file that holds it. So the tar can be made again
//! byte for byte ([`super::LayerTar`]), though the layer is stored as a directory only.
//!
//! # Format (version 1)
//!
//! One zstd stream: [`MAGIC`], then records, each a tag byte and its fields. Numbers are LEB128.
//!
//! ```text
//! R length bytes      these bytes of the tar
//! D length path       the files that follow are in this directory, real path below diff/
//! F length name size  the pieces that follow are in this file, which is so many bytes long
//! P offset count crc  this piece of the file; crc is its CRC-32, 4 bytes, little endian
//! E bytes             the end; so many bytes the tar has
//! ```
//!
//! A file that a later entry of the same tar replaces is moved to `lost/<n>`, a directory with all
//! that is in it. `lost/index` says what was moved and when ([`lost`]).

pub(super) mod lost;
pub(super) mod reader;
pub(super) mod writer;

/// The file beside `diff`.
pub(super) const SPLIT_FILE: &str = "tar-split.zst";

/// The first bytes inside of the compression: what it is, and the version.
const MAGIC: &[u8; 8] = b"ckt-spl\x01";

/// Longest path or raw piece that a record holds.
const MAX_FIELD: u64 = 64 << 10;

const RAW: u8 = b'R';
const DIRECTORY: u8 = b'D';
const FILE: u8 = b'F';
const PIECE: u8 = b'P';
const END: u8 = b'E';

/// Appends a LEB128 number.
fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push((number & 0x7f) as u8);
}

/// Appends a length and the bytes.
fn put_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    put_number(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

/// Reads a LEB128 number; `byte` gives one byte after the other.
fn number<E>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let next = byte()?;
        let bits = u64::from(next & 0x7f);
        if shift == 63 && bits > 1 {
            return Ok(None);
        }
        number |= bits << shift;
        if next & 0x80 == 0 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
