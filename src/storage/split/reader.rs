//! Reading a split: the tar's bytes again, from it and from the layer's files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use zstd::stream::read::Decoder;

use super::lost::Moved;
use super::{DIRECTORY, END, FILE, MAGIC, MAX_FIELD, PIECE, RAW, SPLIT_FILE, number};
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// openat2 gives EAGAIN when anything on the machine is renamed meanwhile.
const MAX_RACES: usize = 1000;

/// The bytes of a layer's tar, not yet checked against its digest.
pub(in crate::storage) struct Reader {
    diff_id: String,
    split: Decoder<'static, BufReader<File>>,
    path: PathBuf,
    diff: Dir,
    moved: Option<Moved>,
    /// The directory of the last `D` record: its path, and open if it has been needed.
    directory: (Vec<u8>, Option<OwnedFd>),
    /// The file of the last `F` record.
    file: Option<Content>,
    /// How many `F` records there were.
    files: u64,
    now: Now,
    /// Bytes of the tar that have been given.
    given: u64,
}

/// An open file of the layer.
struct Content {
    file: File,
    /// For messages.
    path: Vec<u8>,
}

enum Now {
    /// Between two records.
    Record,
    Raw {
        left: u64,
    },
    Piece {
        offset: u64,
        left: u64,
        crc: crc32fast::Hasher,
        expected: u32,
    },
    Ended,
}

impl Reader {
    /// Opens the split in a layer's directory.
    pub(in crate::storage) fn open(
        diff_id: &str,
        layer: &Dir,
        diff: Dir,
    ) -> Result<Reader, StorageError> {
        let path = layer.path().join(SPLIT_FILE);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(layer, SPLIT_FILE, flags, Mode::empty())
            .map_err(StorageError::io(&path, "open"))?;
        let split = Decoder::new(File::from(file)).map_err(StorageError::io(&path, "read"))?;
        let moved = Moved::open(layer)?;
        let mut reader = Reader {
            diff_id: diff_id.to_owned(),
            split,
            path,
            diff,
            moved,
            directory: (Vec::new(), None),
            file: None,
            files: 0,
            now: Now::Record,
            given: 0,
        };
        let mut magic = [0; MAGIC.len()];
        reader.fill(&mut magic)?;
        if magic != *MAGIC {
            return Err(reader.broken("not a tar split of a version that this build knows"));
        }
        Ok(reader)
    }

    /// The next bytes of the tar; 0 at its end.
    pub(in crate::storage) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let most = |left: u64| {
                usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len())
            };
            let count = match &self.now {
                Now::Record => {
                    self.record()?;
                    continue;
                }
                Now::Ended => return Ok(0),
                Now::Raw { left } => {
                    let count = most(*left);
                    self.raw(&mut buffer[..count])?
                }
                Now::Piece { left, .. } => {
                    let count = most(*left);
                    self.piece(&mut buffer[..count])?
                }
            };
            self.given += count as u64;
            return Ok(count);
        }
    }

    fn raw(&mut self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.fill(buffer)?;
        if let Now::Raw { left } = &mut self.now {
            *left -= buffer.len() as u64;
            if *left == 0 {
                self.now = Now::Record;
            }
        }
        Ok(buffer.len())
    }

    fn piece(&mut self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let (
            Some(content),
            Now::Piece {
                offset,
                left,
                crc,
                expected,
            },
        ) = (&self.file, &mut self.now)
        else {
            return Err(self.broken("a piece of no file"));
        };
        let count = content
            .file
            .read_at(buffer, *offset)
            .map_err(StorageError::io(
                self.diff.path().join(shown(&content.path)),
                "read",
            ))?;
        if count == 0 {
            return Err(self.changed(&content.path, "it has become shorter"));
        }
        crc.update(&buffer[..count]);
        *offset += count as u64;
        *left -= count as u64;
        if *left == 0 {
            let (found, expected) = (crc.clone().finalize(), *expected);
            self.now = Now::Record;
            if found != expected {
                return Err(self.changed(&content.path, "its content is another than was unpacked"));
            }
        }
        Ok(count)
    }

    /// Reads one record.
    fn record(&mut self) -> Result<(), StorageError> {
        match self.byte()? {
            RAW => {
                let left = self.length()?;
                if left > 0 {
                    self.now = Now::Raw { left };
                }
            }
            DIRECTORY => {
                let path = self.bytes()?;
                self.directory = (path, None);
            }
            FILE => {
                let name = self.bytes()?;
                let size = self.number()?;
                self.file = Some(self.open_file(&name, size)?);
                self.files += 1;
            }
            PIECE => {
                let (offset, left) = (self.number()?, self.number()?);
                let mut crc = [0; 4];
                self.fill(&mut crc)?;
                if left > 0 {
                    let (expected, crc) = (u32::from_le_bytes(crc), crc32fast::Hasher::new());
                    self.now = Now::Piece {
                        offset,
                        left,
                        crc,
                        expected,
                    };
                }
            }
            END => {
                if self.number()? != self.given {
                    return Err(self.broken("its length is not what it ends with"));
                }
                // To the end of the stream, where the compression's own checksum is.
                if !matches!(self.split.read(&mut [0]), Ok(0)) {
                    return Err(self.broken("it does not end where its last record does"));
                }
                self.now = Now::Ended;
            }
            _ => return Err(self.broken("a record of an unknown kind")),
        }
        Ok(())
    }

    /// Opens a file in the current directory, or where it was moved to, and checks its size.
    fn open_file(&mut self, name: &[u8], size: u64) -> Result<Content, StorageError> {
        let mut path = self.directory.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let moved = self.moved.as_ref();
        let found = moved.and_then(|moved| Some((moved, moved.find(&path, self.files)?)));
        let opened = match found {
            Some((moved, place)) => open_below(&moved.dir, &place, OFlags::NONBLOCK),
            None => self.open_in_directory(name),
        };
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                return Err(self.changed(&path, "it is gone, or another kind of file"));
            }
            Err(error) => {
                let path = self.diff.path().join(shown(&path));
                return Err(StorageError::io(path, "open")(error));
            }
        };
        let metadata = file.metadata().map_err(StorageError::io(
            self.diff.path().join(shown(&path)),
            "stat",
        ))?;
        if !metadata.is_file() {
            return Err(self.changed(&path, "it is no regular file"));
        }
        if metadata.len() != size {
            let reason = format!("it is {} bytes long, not {size}", metadata.len());
            return Err(self.changed(&path, reason));
        }
        Ok(Content { file, path })
    }

    fn open_in_directory(&mut self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let (path, open) = &mut self.directory;
        let directory = match open {
            Some(directory) => directory,
            None => open.insert(open_below(&self.diff, path, OFlags::DIRECTORY)?),
        };
        open_below(directory, name, OFlags::NONBLOCK)
    }

    fn byte(&mut self) -> Result<u8, StorageError> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64, StorageError> {
        let read = number(|| self.byte())?;
        read.ok_or_else(|| self.broken("a number that is too long"))
    }

    fn length(&mut self) -> Result<u64, StorageError> {
        let length = self.number()?;
        if length > MAX_FIELD {
            return Err(self.broken("a field that is too long"));
        }
        Ok(length)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, StorageError> {
        let length = self.length()?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.split
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.broken("it breaks off"),
                _ => self.broken(format!("it cannot be read: {error}")),
            })
    }

    fn broken(&self, reason: impl Into<String>) -> StorageError {
        StorageError::Record {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn changed(&self, path: &[u8], reason: impl Into<String>) -> StorageError {
        StorageError::LayerChanged {
            diff_id: self.diff_id.clone(),
            path: self.diff.path().join(shown(path)),
            reason: reason.into(),
        }
    }
}

/// A path below the layer, for messages.
fn shown(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}

/// Opens what lies below `root`, through no link whatever.
fn open_below(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_RACES {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}
