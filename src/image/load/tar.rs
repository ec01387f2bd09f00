//! The entries of an archive's tar, bare or packed.
//!
//! The tar crate gives the header's layout. Its iterator is not used: it reads GNU long names and PAX
//! records of any size into memory, or, in raw mode, does not know the PAX sizes that Go's archive/tar
//! gives to files over 8 GiB.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use tar::{EntryType, Header};

use super::Source;
use super::reading::{Reading, Stoppable};
use crate::image::error::ImageError;
use crate::image::zstd_frames::Frames;

/// Most bytes that a packed archive may unpack to.
const MAX_UNPACKED_BYTES: u64 = 1 << 40;
/// Largest extended header (PAX, GNU long name) looked at.
const MAX_EXTENDED_HEADER: u64 = 64 << 10;
/// How much of a packed archive is read at once.
const PACKED_BYTES: usize = 128 << 10;
const BLOCK: usize = 512;

/// How an archive is packed as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// An entry of a tar that matters to us.
pub(super) enum Entry<'a> {
    File {
        size: u64,
        content: &'a mut dyn Read,
    },
    /// A symbolic or hard link to another name of the archive.
    Link { target: String },
}

type OnEntry<'a> = dyn FnMut(String, Entry<'_>) -> Result<bool, ImageError> + 'a;

/// The packing by the first bytes.
pub(super) fn detect(mut file: &File) -> std::io::Result<Packing> {
    let mut magic = Vec::new();
    file.take(4).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::None,
    })
}

/// Reads a tar from its beginning until `on_entry` has enough.
pub(super) fn scan(
    file: File,
    (packing, reading): (Packing, &Reading),
    source: Source<'_>,
    on_entry: &mut OnEntry<'_>,
) -> Result<(), ImageError> {
    let broken = |error: std::io::Error| source.error(format!("broken tar archive: {error}"));
    let file = reading.file(file);
    match packing {
        // seeking: the first pass does not read the layers
        Packing::None => {
            let length = file.length().map_err(broken)?;
            scan_entries(Blocks::new(Bare { file, length }), source, on_entry)
        }
        Packing::Gzip => {
            let reader = flate2::read::MultiGzDecoder::new(file).take(MAX_UNPACKED_BYTES);
            scan_entries(
                Blocks::new(Packed(BufReader::new(reader))),
                source,
                on_entry,
            )
        }
        Packing::Zstd => {
            let packed = BufReader::with_capacity(PACKED_BYTES, file);
            let reader = Frames::new(packed, reading.archive_window()).map_err(broken)?;
            let reader = BufReader::new(reader.take(MAX_UNPACKED_BYTES));
            scan_entries(Blocks::new(Packed(reader)), source, on_entry)
        }
    }
}

fn scan_entries<R: Skip>(
    mut blocks: Blocks<R>,
    source: Source<'_>,
    on_entry: &mut OnEntry<'_>,
) -> Result<(), ImageError> {
    let broken = |error: std::io::Error| source.error(format!("broken tar archive: {error}"));
    let mut extended = Extended::default();
    while let Some(header) = blocks.header().map_err(broken)? {
        let kind = header.entry_type();
        let mut size = header
            .entry_size()
            .map_err(|_| source.error("broken tar archive: a size that is no number"))?;
        if matches!(
            kind,
            EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink
        ) {
            let bytes = blocks.small(size).map_err(broken)?;
            extended
                .read(kind, &bytes)
                .map_err(|reason| source.error(reason))?;
            continue;
        }
        let found = std::mem::take(&mut extended);
        if kind == EntryType::XGlobalHeader {
            blocks.data(size);
            continue;
        }
        let name = found.name.unwrap_or_else(|| text(&header.path_bytes()));
        let name = normalize(&name).map_err(|reason| source.error(reason))?;
        let done = match kind {
            EntryType::Regular | EntryType::Continuous => {
                size = found.size.unwrap_or(size);
                let content = blocks.data(size);
                on_entry(name, Entry::File { size, content })?
            }
            EntryType::Symlink | EntryType::Link => {
                let own = || {
                    header
                        .link_name_bytes()
                        .map(|bytes| text(&bytes))
                        .unwrap_or_default()
                };
                let target = found.target.unwrap_or_else(own);
                let target = match kind {
                    EntryType::Symlink => link_target(&name, &target),
                    _ => normalize(&target),
                };
                let target = target.map_err(|reason| source.error(reason))?;
                // A link's size says nothing (archive/tar's rule).
                on_entry(name, Entry::Link { target })?
            }
            EntryType::Directory => false,
            // Of a kind that no image archive has.
            _ => {
                blocks.data(size);
                false
            }
        };
        if done {
            return Ok(());
        }
    }
    Ok(())
}

/// A stream whose parts can be passed over.
trait Skip: Read {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()>;
}

/// An archive that is not packed.
struct Bare {
    file: Stoppable,
    length: u64,
}

impl Read for Bare {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Skip for Bare {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        let at = self.file.stream_position()?.checked_add(bytes);
        match at.filter(|at| *at <= self.length) {
            Some(at) => self.file.seek(SeekFrom::Start(at)).map(drop),
            None => Err(truncated(bytes)),
        }
    }
}

/// One that is unpacked while it is read.
struct Packed<R>(R);

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Packed<R> {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        let skipped = std::io::copy(&mut (&mut self.0).take(bytes), &mut std::io::sink())?;
        if skipped < bytes {
            return Err(truncated(bytes - skipped));
        }
        Ok(())
    }
}

/// Headers, and the data after each, as a reader of the current entry's.
struct Blocks<R> {
    inner: R,
    /// Bytes of the current entry's data that have not been read, and those that fill its last block.
    left: u64,
    padding: u64,
}

impl<R: Skip> Blocks<R> {
    fn new(inner: R) -> Blocks<R> {
        Blocks {
            inner,
            left: 0,
            padding: 0,
        }
    }

    /// The next header, past the rest of the current entry. `None`: the archive's end.
    fn header(&mut self) -> std::io::Result<Option<Header>> {
        // The last entry's padding may be missing: what counts is its data.
        self.inner.skip(self.left)?;
        if self.padding > 0 && self.inner.skip(self.padding).is_err() {
            return Ok(None);
        }
        (self.left, self.padding) = (0, 0);
        let mut block = Vec::with_capacity(BLOCK);
        self.inner
            .by_ref()
            .take(BLOCK as u64)
            .read_to_end(&mut block)?;
        match block.len() {
            0 => return Ok(None),
            BLOCK => {}
            short => return Err(truncated((BLOCK - short) as u64)),
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The crate's own words for a field that is no number have the field's bytes in them.
        if header.cksum().ok() != Some(sum(&block)) {
            return Err(std::io::Error::other(
                "a header's checksum is wrong: this is no tar",
            ));
        }
        Ok(Some(header))
    }

    /// The data of the current entry, to be read as far as is wanted.
    fn data(&mut self, size: u64) -> &mut Blocks<R> {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self
    }

    /// The data of an extended header.
    fn small(&mut self, size: u64) -> std::io::Result<Vec<u8>> {
        if size > MAX_EXTENDED_HEADER {
            return Err(std::io::Error::other(format!(
                "an extended header over the limit of {MAX_EXTENDED_HEADER} bytes"
            )));
        }
        let mut bytes = Vec::new();
        self.data(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read> Read for Blocks<R> {
    /// An archive that ends before the entry's data does is an error and no short file.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(truncated(self.left));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn truncated(missing: u64) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        format!("the archive is truncated: {missing} bytes are missing"),
    )
}

/// The sum of all bytes, those of the checksum itself as spaces.
fn sum(block: &[u8]) -> u32 {
    let own = 148..156;
    let value = |(i, byte): (usize, &u8)| u32::from(if own.contains(&i) { b' ' } else { *byte });
    block.iter().enumerate().map(value).sum()
}

/// What extended headers say about the entry after them.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    target: Option<String>,
    size: Option<u64>,
}

impl Extended {
    fn read(&mut self, kind: EntryType, bytes: &[u8]) -> Result<(), String> {
        let until_nul = || bytes.split(|b| *b == 0).next().unwrap_or_default();
        match kind {
            EntryType::GNULongName => self.name = Some(text(until_nul())),
            EntryType::GNULongLink => self.target = Some(text(until_nul())),
            _ => {
                for record in tar::PaxExtensions::new(bytes) {
                    let record = record.map_err(|error| format!("broken PAX header: {error}"))?;
                    let value = record.value_bytes();
                    match record.key_bytes() {
                        b"path" => self.name = Some(text(value)),
                        b"linkpath" => self.target = Some(text(value)),
                        b"size" => {
                            let size = text(value).parse();
                            let wrong = |_| "broken PAX header: a size that is no number";
                            self.size = Some(size.map_err(wrong)?);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name without `.` components; one that leaves the archive is refused.
pub(super) fn normalize(name: &str) -> Result<String, String> {
    if name.starts_with('/') {
        return Err(format!("entry {name:?}: an absolute name"));
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("entry {name:?}: a name that leaves the archive")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The name that a symbolic link at `name` points to.
fn link_target(name: &str, target: &str) -> Result<String, String> {
    let leaves = || format!("entry {name:?}: a link to {target:?}, which leaves the archive");
    if target.starts_with('/') {
        return Err(leaves());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(leaves)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
