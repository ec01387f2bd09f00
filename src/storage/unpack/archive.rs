//! From bytes to entries: ustar, GNU and PAX headers, in the reading of Go's archive/tar, which is
//! what images are built and first tested with.
//!
//! The `tar` crate gives the header's layout. Its iterator is not used: it reads long names and PAX
//! records of any size into memory, breaks on binary PAX values, and cannot tell a missing end marker
//! or trailing data.
//!
//! An archive may end without its two zero blocks, as archive/tar allows (the diff id tells whether
//! something is missing), but not inside an entry, and after the zero blocks only zeros may follow:
//! other readers would see entries there that we do not.

use tar::{EntryType, GnuSparseHeader, Header};

use super::super::split::writer::Writer;
use super::Fault;
use super::name::MAX_PATH_BYTES;
use super::pax::{self, Time};
use super::source::{Source, Stream};

const BLOCK: usize = 512;

/// Bytes of one PAX header or long name; Go's archive/tar has the same bound.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Extension headers before one entry; three are honest: PAX records, a long name and a long link.
const MAX_EXTENSIONS: usize = 8;

/// Pieces of one sparse file.
const MAX_SEGMENTS: usize = 65_536;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A header with all its extensions applied. Its data follows in the [`Archive`].
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Bytes of data in the archive; 0 for all but files.
    pub(super) size: u64,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file: its length, and where its data goes.
    pub(super) sparse: Option<Sparse>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) length: u64,
    /// Offset and length, ascending, not overlapping, together as long as the entry's data.
    pub(super) segments: Vec<(u64, u64)>,
}

/// What `x`, `L` and `K` headers say about the entry after them.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    count: usize,
}

pub(super) struct Archive<S> {
    source: S,
    /// Data bytes of the current entry that have not been read.
    data_left: u64,
    /// Bytes that fill up its last block.
    padding: u64,
}

impl Archive<Source<'_>> {
    pub(super) fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// The sha256 of the whole stream, in hex, once there is no next entry.
    pub(super) fn digest(&self) -> String {
        self.source.digest()
    }

    /// Where the rest of the archive is kept.
    pub(super) fn split(&mut self) -> &mut Writer {
        &mut self.source.split
    }

    /// Completes that.
    pub(super) fn into_split(self) -> Writer {
        self.source.split
    }
}

impl<S: Stream> Archive<S> {
    pub(super) fn new(source: S) -> Archive<S> {
        Archive {
            source,
            data_left: 0,
            padding: 0,
        }
    }

    /// The next entry, past whatever is left of the last one. `None`: the stream has been read to its
    /// very end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        self.skip(self.data_left + self.padding)?;
        self.data_left = 0;
        self.padding = 0;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header(extensions.count == 0)? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    let data = self.extension(&header)?;
                    extensions.add_pax(&data)?;
                }
                // Applies to no single entry, and the builders of images put nothing of use there.
                EntryType::XGlobalHeader => {
                    self.extension(&header)?;
                    continue;
                }
                EntryType::GNULongName => {
                    extensions.long_name = Some(until_nul(self.extension(&header)?));
                }
                EntryType::GNULongLink => {
                    extensions.long_link = Some(until_nul(self.extension(&header)?));
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
            extensions.count += 1;
            if extensions.count > MAX_EXTENSIONS {
                return Err(Fault::Format("an entry has over 8 extension headers"));
            }
        }
    }

    /// The next piece of the current entry's data; empty at its end.
    pub(super) fn data(&mut self) -> Result<&[u8], Fault> {
        if self.data_left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.data_left).unwrap_or(usize::MAX);
        let bytes = self.source.peek()?;
        if bytes.is_empty() {
            return Err(Fault::Format("it ends inside a file's content"));
        }
        Ok(&bytes[..bytes.len().min(left)])
    }

    /// Marks `count` bytes of what [`Archive::data`] gave as written to a file.
    pub(super) fn consume(&mut self, count: usize) {
        self.source.consume_content(count);
        self.data_left -= count as u64;
    }

    fn skip(&mut self, mut count: u64) -> Result<(), Fault> {
        while count > 0 {
            let length = self.source.peek()?.len();
            if length == 0 {
                return Err(Fault::Format("it ends inside an entry"));
            }
            let step = length.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.source.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fault> {
        let mut block = [0; BLOCK];
        match self.source.read(&mut block)? {
            BLOCK => Ok(Some(block)),
            0 => Ok(None),
            _ => Err(Fault::Format("it ends inside a header")),
        }
    }

    /// A header whose checksum is right. `None`: the end, which `may_end` allows.
    fn header(&mut self, may_end: bool) -> Result<Option<Header>, Fault> {
        let block = match self.block()? {
            Some(block) if block != [0; BLOCK] => block,
            _ if !may_end => return Err(Fault::Format("it ends after an extension header")),
            None => return Ok(None),
            Some(_) => {
                self.end()?;
                return Ok(None);
            }
        };
        let header = Header::from_byte_slice(&block).clone();
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// After one zero block: nothing but zeros to the end of the stream.
    fn end(&mut self) -> Result<(), Fault> {
        loop {
            let bytes = self.source.peek()?;
            let length = bytes.len();
            if length == 0 {
                return Ok(());
            }
            if bytes.iter().any(|b| *b != 0) {
                return Err(Fault::Format("data follows its end marker"));
            }
            self.source.consume(length);
        }
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let size = field(&header.as_old().size, "the size")?;
        let size = u64::try_from(size).map_err(|_| Fault::Format("a size is negative"))?;
        if size > MAX_EXTENSION_BYTES {
            return Err(Fault::Format("an extension header is over 1 MiB long"));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.source.read(&mut data)? < data.len() {
            return Err(Fault::Format("it ends inside an extension header"));
        }
        self.skip(padding_of(size))?;
        Ok(data)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, Fault> {
        let old = header.as_old();
        let name = extensions
            .long_name
            .or(extensions.name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extensions
            .long_link
            .or(extensions.link)
            .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let kind = kind_of(old.linkflag[0], &name)?;
        let size = match extensions.size {
            Some(size) => size,
            None => u64::try_from(field(&old.size, "the size")?)
                .map_err(|_| Fault::Format("a size is negative"))?,
        };
        // Only files have data, whatever the size field says (archive/tar's rule).
        let size = if kind == Kind::File { size } else { 0 };
        let sparse = match header.entry_type() {
            EntryType::GNUSparse => Some(self.sparse(header, size)?),
            _ => None,
        };
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            None => Time {
                seconds: field(&old.mtime, "the mtime")?,
                nanoseconds: 0,
            },
        };
        self.data_left = size;
        self.padding = padding_of(size);
        Ok(Entry {
            name,
            link,
            kind,
            mode: u32::try_from(field(&old.mode, "the mode")? & 0o7777).unwrap_or(0),
            uid: owner(extensions.uid, &old.uid)?,
            gid: owner(extensions.gid, &old.gid)?,
            mtime,
            size,
            device: device_of(header, kind)?,
            xattrs: extensions.xattrs,
            sparse,
        })
    }

    /// The map of a GNU sparse file: four pieces in the header, 21 in each block after it.
    fn sparse(&mut self, header: &Header, size: u64) -> Result<Sparse, Fault> {
        let gnu = header
            .as_gnu()
            .ok_or(Fault::Format("a sparse file without a GNU header"))?;
        let length = u64::try_from(field(&gnu.realsize, "the length of a sparse file")?)
            .map_err(|_| Fault::Format("a size is negative"))?;
        let mut segments = Vec::new();
        add_segments(&mut segments, &gnu.sparse)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let block = self
                .block()?
                .ok_or(Fault::Format("it ends inside a sparse map"))?;
            let mut extended = tar::GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&block);
            add_segments(&mut segments, extended.sparse())?;
            more = extended.is_extended();
        }
        let mut end = 0;
        let mut data = 0u64;
        for (offset, count) in &segments {
            let after = offset.checked_add(*count).filter(|after| *after <= length);
            match after {
                Some(after) if *offset >= end => end = after,
                _ => return Err(Fault::Format("a sparse map is out of order")),
            }
            data += count;
        }
        if data != size {
            return Err(Fault::Format("a sparse map does not fit its data"));
        }
        Ok(Sparse { length, segments })
    }
}

impl Extensions {
    fn add_pax(&mut self, data: &[u8]) -> Result<(), Fault> {
        for (key, value) in pax::records(data).map_err(Fault::Format)? {
            let number = || {
                let text = std::str::from_utf8(value).ok();
                text.and_then(|t| t.parse::<i64>().ok())
                    .ok_or(Fault::Format("a PAX record holds no number"))
            };
            match key {
                b"path" => self.name = text(value)?,
                b"linkpath" => self.link = text(value)?,
                // An empty value takes the record back.
                b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
                b"size" => {
                    let size = u64::try_from(number()?);
                    self.size = Some(size.map_err(|_| Fault::Format("a size is negative"))?);
                }
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => {
                    let time = pax::time(value).ok_or(Fault::Format("a PAX mtime is no time"))?;
                    self.mtime = Some(time);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(Fault::Format("sparse files in PAX form are not supported"));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    if value.contains(&0) {
        return Err(Fault::Format("a PAX path holds a NUL byte"));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    // One byte more than allowed is enough for the name's own check to refuse it.
    data.truncate(end.min(MAX_PATH_BYTES + 1));
    data
}

fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn field(bytes: &[u8], what: &'static str) -> Result<i64, Fault> {
    pax::number(bytes).ok_or(Fault::Number(what))
}

fn owner(extension: Option<i64>, bytes: &[u8]) -> Result<u32, Fault> {
    let id = match extension {
        Some(id) => id,
        None => field(bytes, "the owner")?,
    };
    // The highest id means "leave as it is" to chown.
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Fault::Refused("its owner is no valid user or group id")),
    }
}

fn kind_of(flag: u8, name: &[u8]) -> Result<Kind, Fault> {
    Ok(match flag {
        // Before POSIX a directory was known by its slash only.
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err(Fault::Format("an entry is of an unknown type")),
    })
}

fn device_of(header: &Header, kind: Kind) -> Result<(u32, u32), Fault> {
    if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        return Ok((0, 0));
    }
    // GNU and ustar headers have the two fields at the same place.
    let bytes = header.as_bytes();
    let number = |at: std::ops::Range<usize>| {
        let number = field(&bytes[at], "a device number")?;
        u32::try_from(number).map_err(|_| Fault::Refused("its device number is out of range"))
    };
    Ok((number(329..337)?, number(337..345)?))
}

fn add_segments(into: &mut Vec<(u64, u64)>, maps: &[GnuSparseHeader]) -> Result<(), Fault> {
    for map in maps {
        if map.offset[0] == 0 && map.numbytes[0] == 0 {
            continue;
        }
        let number = |bytes: &[u8]| {
            u64::try_from(field(bytes, "a sparse map")?)
                .map_err(|_| Fault::Format("a size is negative"))
        };
        into.push((number(&map.offset)?, number(&map.numbytes)?));
        if into.len() > MAX_SEGMENTS {
            return Err(Fault::Format("a sparse map has over 65536 pieces"));
        }
    }
    Ok(())
}

/// The sum of all bytes with the field itself as spaces; some old tars took them as signed.
fn check_sum(header: &Header) -> Result<(), Fault> {
    let stored = field(&header.as_old().cksum, "the checksum")?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (i, byte) in header.as_bytes().iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored != unsigned && stored != signed {
        return Err(Fault::Format(
            "a header's checksum is wrong: this is no tar archive",
        ));
    }
    Ok(())
}
