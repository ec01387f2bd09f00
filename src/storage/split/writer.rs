//! Writing a split while its layer is unpacked.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::{DIRECTORY, END, FILE, MAGIC, PIECE, RAW, SPLIT_FILE, put_bytes, put_number};
use crate::storage::StorageError;
use crate::storage::dir::Dir;

/// Headers are alike: the fastest level makes a hundredth of them.
const LEVEL: i32 = 1;

/// 128 KiB of window, so that the encoder has 0.4 MiB and not several.
const WINDOW_LOG: u32 = 17;

/// Raw bytes that are collected for one record.
const RAW_BYTES: usize = 32 << 10;

/// The split of a layer in the making. An error of its file is kept until [`Writer::finish`].
pub(in crate::storage) struct Writer {
    out: Encoder<'static, File>,
    /// Bytes of the tar that no record has yet.
    raw: Vec<u8>,
    record: Vec<u8>,
    /// Real path of `diff`.
    root: Vec<u8>,
    /// The directory that the last `D` record named.
    directory: Option<Rc<OwnedFd>>,
    /// The piece being written: where it begins, its length so far and its checksum.
    piece: Option<(u64, u64, crc32fast::Hasher)>,
    tar_bytes: u64,
    state: State,
}

enum State {
    Good,
    Failed(io::Error),
    /// This tar cannot be made again, and why.
    GivenUp(&'static str),
}

/// What a finished split says.
#[derive(Debug, Clone, Copy)]
pub(in crate::storage) struct Finished {
    /// Length of the tar.
    pub(in crate::storage) tar_bytes: u64,
    /// Bytes of the split on disk.
    pub(in crate::storage) bytes: u64,
}

impl Writer {
    /// Begins the split of the layer that is unpacked into `diff`, in the directory `beside`.
    pub(in crate::storage) fn create(beside: &Dir, diff: &Dir) -> Result<Writer, StorageError> {
        let path = beside.path().join(SPLIT_FILE);
        let file = beside.write(SPLIT_FILE, &[])?;
        let open = || -> io::Result<Writer> {
            let mut out = Encoder::new(file, LEVEL)?;
            out.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
            out.include_checksum(true)?;
            out.write_all(MAGIC)?;
            Ok(Writer {
                out,
                raw: Vec::with_capacity(RAW_BYTES),
                record: Vec::new(),
                root: real_path(diff.as_fd())?,
                directory: None,
                piece: None,
                tar_bytes: 0,
                state: State::Good,
            })
        };
        open().map_err(StorageError::io(path, "begin to keep the tar's headers"))
    }

    /// Bytes of the tar that become no file's content.
    pub(in crate::storage) fn raw(&mut self, mut bytes: &[u8]) {
        self.tar_bytes += bytes.len() as u64;
        if !matches!(self.state, State::Good) {
            return;
        }
        while !bytes.is_empty() {
            let count = bytes.len().min(RAW_BYTES - self.raw.len());
            self.raw.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.raw.len() == RAW_BYTES {
                self.flush_raw();
            }
        }
    }

    /// The pieces that come are content of the file `name` in `parent`, in the end `size` bytes long.
    pub(in crate::storage) fn file(&mut self, parent: &Rc<OwnedFd>, name: &[u8], size: u64) {
        if !matches!(self.state, State::Good) {
            return;
        }
        self.flush_raw();
        let known = self.directory.as_ref();
        if !known.is_some_and(|known| Rc::ptr_eq(known, parent)) {
            let Some(path) = below(&self.root, parent.as_fd()) else {
                return self.give_up("a directory in it has too long a path");
            };
            self.put(DIRECTORY, |record| put_bytes(record, &path));
            self.directory = Some(Rc::clone(parent));
        }
        self.put(FILE, |record| {
            put_bytes(record, name);
            put_number(record, size);
        });
    }

    /// A piece of the file begins at this offset in it.
    pub(in crate::storage) fn begin_piece(&mut self, offset: u64) {
        self.piece = Some((offset, 0, crc32fast::Hasher::new()));
    }

    /// Bytes of the piece.
    pub(in crate::storage) fn piece(&mut self, bytes: &[u8]) {
        self.tar_bytes += bytes.len() as u64;
        if let Some((_, count, crc)) = &mut self.piece {
            *count += bytes.len() as u64;
            crc.update(bytes);
        }
    }

    /// The piece is complete.
    pub(in crate::storage) fn end_piece(&mut self) {
        let Some((offset, count, crc)) = self.piece.take() else {
            return;
        };
        self.put(PIECE, |record| {
            put_number(record, offset);
            put_number(record, count);
            record.extend_from_slice(&crc.finalize().to_le_bytes());
        });
    }

    /// This tar cannot be made again.
    pub(in crate::storage) fn give_up(&mut self, why: &'static str) {
        if matches!(self.state, State::Good) {
            self.state = State::GivenUp(why);
        }
    }

    /// Completes the split. `Err`: its file could not be written. `Ok(Err(why))`: there is none.
    pub(in crate::storage) fn finish(mut self) -> io::Result<Result<Finished, &'static str>> {
        self.flush_raw();
        let tar_bytes = self.tar_bytes;
        self.put(END, |record| put_number(record, tar_bytes));
        match self.state {
            State::Failed(error) => return Err(error),
            State::GivenUp(why) => return Ok(Err(why)),
            State::Good => {}
        }
        let bytes = self.out.finish()?.metadata()?.len();
        Ok(Ok(Finished { tar_bytes, bytes }))
    }

    fn flush_raw(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut self.raw);
        self.put(RAW, |record| put_bytes(record, &raw));
        self.raw = raw;
        self.raw.clear();
    }

    fn put(&mut self, tag: u8, fields: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.state, State::Good) {
            return;
        }
        self.record.clear();
        self.record.push(tag);
        fields(&mut self.record);
        if let Err(error) = self.out.write_all(&self.record) {
            self.state = State::Failed(error);
        }
    }
}

/// Where an open directory is now. `/proc` resolves no link for that.
fn real_path(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::readlink(link, Vec::new())?.into_bytes())
}

/// The path of `directory` below the directory whose real path is `root`; empty for itself.
pub(super) fn below(root: &[u8], directory: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let path = real_path(directory).ok()?;
    match path.strip_prefix(root)? {
        [] => Some(Vec::new()),
        [b'/', rest @ ..] => Some(rest.to_vec()),
        _ => None,
    }
}

/// The real path of `diff`, for [`below`].
pub(super) fn root_path(diff: &Dir) -> io::Result<Vec<u8>> {
    real_path(diff.as_fd())
}
