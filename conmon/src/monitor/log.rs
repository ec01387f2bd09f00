//! The container's log file.
//!
//! Crash rule: a record is written by one write(2) at the file's end, mostly together with others;
//! what a full disk cuts short is cut back to the last whole record, so the file always ends with
//! one. The container never waits for the disk's space: what cannot be written is counted and lost.

use core::ffi::CStr;

use conmon::log_record::{Headers, render, split_at_record};
use conmon::{Step, Stream};
use nostd_sys::{
    Access, Errno, Fd, Kind, chmod_file, map, metadata, metadata_of, open, release, truncate,
    unlink,
};

use super::failure::{Failure, Subject};

/// The mode of a new log, whatever the umask: as conmon's and containerd's.
const MODE: u16 = 0o640;

/// PATH_MAX.
const MAX_PATH: usize = 4096;

pub(super) struct Log {
    file: Option<Fd>,
    /// Where it is, NUL-terminated.
    path: &'static mut [u8],
    /// Where it is about to be, while it is opened.
    wanted: &'static mut [u8],
    created: bool,
    /// Whether the file ends within a record that could not be cut off.
    torn: bool,
    dropped_bytes: u64,
}

impl Log {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            file: None,
            path: map(MAX_PATH)?,
            wanted: map(MAX_PATH)?,
            created: false,
            torn: false,
            dropped_bytes: 0,
        })
    }

    /// Bytes of output that are in no record.
    pub(super) fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Opens the log for the first time; with an empty path there is none.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<(), Failure> {
        if path.is_empty() {
            return Ok(());
        }
        self.created = self.open_path(path)?;
        Ok(())
    }

    /// Undoes [`open`](Self::open) for a container that did not come to be.
    pub(super) fn undo(&mut self) {
        if self.created {
            // It may have been removed meanwhile, which is what is wanted.
            let _ = unlink(until_nul(self.path));
        }
    }

    /// Opens the log anew, at another path where given. On failure nothing has changed.
    pub(super) fn reopen(&mut self, path: &[u8]) -> Result<(), Failure> {
        if self.file.is_none() {
            return Err(Failure::refused(
                Step::Log,
                "the container was created without a log",
            ));
        }
        if path.is_empty() {
            self.wanted.copy_from_slice(self.path);
            self.open_wanted().map(drop)
        } else {
            self.open_path(path).map(drop)
        }
    }

    /// The path of the log that was to be opened last.
    pub(super) fn wanted_path(&self) -> &[u8] {
        until_nul(self.wanted).to_bytes()
    }

    /// Opens the log at a new path and says whether it was created.
    fn open_path(&mut self, path: &[u8]) -> Result<bool, Failure> {
        let Some(room) = self.wanted.get_mut(..=path.len()) else {
            return Err(Failure::system(
                Step::Log,
                Subject::Log,
                Errno::ENAMETOOLONG,
            ));
        };
        room[..path.len()].copy_from_slice(path);
        room[path.len()] = 0;
        self.open_wanted()
    }

    /// Puts the newly opened file in the old one's place, if it can be opened.
    fn open_wanted(&mut self) -> Result<bool, Failure> {
        let Opened { file, created } = open_at(until_nul(self.wanted))
            .map_err(|errno| Failure::system(Step::Log, Subject::Log, errno))?;
        self.file = Some(file);
        self.torn = false;
        self.path.copy_from_slice(self.wanted);
        Ok(created)
    }

    /// Gives back the memory that holds nothing that is needed.
    pub(super) fn release(&mut self) {
        release(self.wanted);
    }

    /// Writes what one read of the container's output gave.
    pub(super) fn write(&mut self, stream: Stream, time_ns: u64, data: &[u8], records: &mut [u8]) {
        if self.file.is_none() {
            return;
        }
        let headers = Headers::new(stream, time_ns);
        let mut rest = data;
        while !rest.is_empty() {
            let done = render(&headers, rest, records);
            if done.consumed == 0 {
                return;
            }
            self.append(records.split_at(done.written).0);
            rest = rest.split_at(done.consumed).1;
        }
    }

    fn append(&mut self, records: &[u8]) {
        let Some(file) = &self.file else { return };
        if self.torn {
            // The end of the torn record, so that the next one begins on its own line.
            if file.write(b"\n") != Ok(1) {
                self.dropped_bytes += split_at_record(0, records).1;
                return;
            }
            self.torn = false;
        }
        let mut written = 0;
        while written < records.len() {
            match file.write(records.split_at(written).1) {
                Ok(count) if count > 0 => written += count,
                _ => {
                    let (whole, lost) = split_at_record(written, records);
                    self.torn = written > whole && cut_end(file, written - whole).is_err();
                    self.dropped_bytes += lost;
                    return;
                }
            }
        }
    }
}

fn cut_end(file: &Fd, bytes: usize) -> Result<(), Errno> {
    let size = metadata_of(file)?.size;
    truncate(file, size.checked_sub(bytes as u64).ok_or(Errno::EINVAL)?)
}

fn until_nul(path: &[u8]) -> &CStr {
    CStr::from_bytes_until_nul(path).unwrap_or_default()
}

struct Opened {
    file: Fd,
    created: bool,
}

/// Opens or creates the log. Whatever it returns as an error, it has created nothing.
fn open_at(path: &CStr) -> Result<Opened, Errno> {
    remove_dangling_link(path);
    match open(
        path,
        Access::Append {
            mode: MODE,
            exclusive: true,
        },
    ) {
        Ok(file) => {
            // The umask is the daemon's, and the log's readers are in the group.
            let _ = chmod_file(&file, MODE);
            Ok(Opened {
                file,
                created: true,
            })
        }
        Err(Errno::EEXIST) => {
            let file = open(
                path,
                Access::Append {
                    mode: MODE,
                    exclusive: false,
                },
            )?;
            match metadata_of(&file)?.kind {
                Kind::Regular => Ok(Opened {
                    file,
                    created: false,
                }),
                // A pipe or a device would make the container wait for whoever reads it.
                Kind::SymbolicLink | Kind::Other => Err(Errno::EINVAL),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// A link that leads nowhere is left over from a log that is gone; opening through it would create
/// the log where the link says (CRI-O's EnsureSaneLogPath removes it too).
fn remove_dangling_link(path: &CStr) {
    let is_link = metadata(path, false).is_ok_and(|link| link.kind == Kind::SymbolicLink);
    if is_link && metadata(path, true) == Err(Errno::ENOENT) {
        // Where it cannot be removed, opening the log says why.
        let _ = unlink(path);
    }
}
