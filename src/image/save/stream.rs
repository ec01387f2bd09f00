//! The archive as it leaves: a tar in parts of a channel, with the progress beside.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::error::ImageError;
use super::Part;
use crate::storage::LayerTar;

/// Bytes of one part.
const PART_BYTES: usize = 128 << 10;

/// So many bytes of layers are read before a part without bytes tells of it.
const TOLD_BYTES: u64 = 8 << 20;

/// Where an archive's bytes go.
pub(super) struct Output {
    sender: mpsc::Sender<Result<Part, ImageError>>,
    buffer: Vec<u8>,
    done: u64,
    told: u64,
    total: u64,
}

impl Output {
    pub(super) fn new(sender: mpsc::Sender<Result<Part, ImageError>>, total: u64) -> Output {
        Output {
            sender,
            buffer: Vec::with_capacity(PART_BYTES),
            done: 0,
            told: 0,
            total,
        }
    }

    /// So many more bytes of layers have been read.
    pub(super) fn read(&mut self, bytes: u64) -> io::Result<()> {
        self.done += bytes;
        if self.done >= self.told + TOLD_BYTES {
            return self.send();
        }
        Ok(())
    }

    /// Tells the reader why there is no more.
    pub(super) fn fail(&mut self, error: ImageError) {
        // A reader that has gone needs no reason.
        let _ = self.sender.blocking_send(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        self.told = self.done;
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
        let part = Part {
            bytes: Bytes::from(full),
            done: self.done,
            total: self.total,
        };
        let sent = self.sender.blocking_send(Ok(part));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone"))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PART_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// A tar on its way out.
pub(super) struct Tar<'a> {
    pub(super) output: &'a mut Output,
}

impl Tar<'_> {
    pub(super) fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        let mut header = header(0);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        self.begin(name, header)
    }

    pub(super) fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.begin(name, header(bytes.len() as u64))?;
        let written = self
            .output
            .write_all(bytes)
            .and_then(|()| self.pad(bytes.len() as u64));
        written.map_err(|error| failed(name, error))
    }

    /// A file of `size` bytes, which `content` gives. `counted`: they are a layer's, unpacked.
    pub(super) fn file(
        &mut self,
        name: &str,
        size: u64,
        content: &mut dyn Read,
        counted: bool,
    ) -> Result<(), ImageError> {
        self.begin(name, header(size))?;
        self.copy(size, content, counted)
            .map_err(|error| failed(name, error))
    }

    /// The two zero blocks.
    pub(super) fn end(self) -> Result<(), ImageError> {
        let written = self
            .output
            .write_all(&[0; 1024])
            .and_then(|()| self.output.flush());
        written.map_err(|error| failed("its end", error))
    }

    fn begin(&mut self, name: &str, mut header: tar::Header) -> Result<(), ImageError> {
        let set = header.set_path(name).and_then(|()| {
            header.set_cksum();
            self.output.write_all(header.as_bytes())
        });
        set.map_err(|error| failed(name, error))
    }

    fn copy(&mut self, size: u64, content: &mut dyn Read, counted: bool) -> io::Result<()> {
        let mut buffer = vec![0; PART_BYTES];
        let mut left = size;
        loop {
            // To the very end, where the content says whether it was right.
            let count = content.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            left = left.checked_sub(count as u64).ok_or_else(|| {
                io::Error::other(format!(
                    "it is longer than the {size} bytes that it should have"
                ))
            })?;
            self.output.write_all(&buffer[..count])?;
            if counted {
                self.output.read(count as u64)?;
            }
        }
        if left > 0 {
            return Err(io::Error::other(format!(
                "{left} bytes of {size} are missing"
            )));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        self.output.write_all(&[0; 512][..padding])
    }
}

/// Nothing in it depends on when and by whom the archive is made.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Our own error where a reader carried one, else the words of the system.
pub(super) fn failed(what: &str, error: io::Error) -> ImageError {
    of_layer(what, &error).unwrap_or_else(|| ImageError::NotSaved {
        image: what.to_owned(),
        reason: error.to_string(),
    })
}

/// The error of a layer's tar, if it is that.
fn of_layer(what: &str, error: &io::Error) -> Option<ImageError> {
    let reason = LayerTar::error(error)?.to_string();
    Some(ImageError::NotSaved {
        image: what.to_owned(),
        reason,
    })
}
