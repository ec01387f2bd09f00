//! A layer's tar stream onto the disk, by hostile-input rules.
//!
//! The stream is read once, on a thread of its own, and hashed ([`source`]); [`archive`] makes entries of
//! the bytes, [`name`] says what a name means, [`apply`] makes each entry in the [`tree`]. The image is
//! not trusted in anything: every lookup is confined to the layer's directory by the kernel, every
//! count and length is bounded, and what a layer has no business to hold is refused by name.

mod apply;
mod archive;
mod compare;
mod name;
mod pax;
mod source;
mod tree;

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::thread;

use oci_spec::image::Digest;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::space::{self, Space};
use super::split::SPLIT_FILE;
use super::split::lost::Lost;
use super::split::writer::Writer;
use super::trash::Trash;
use super::usage::{self, Tally};
use super::{LayerLimits, StorageError};
use apply::{Applier, Counting};
use archive::Archive;
use source::Source;
use tree::Tree;

pub(super) use compare::{Difference, compare};
pub(super) use name::EntryPath;

/// How often the free space is looked at: so many bytes of the stream.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// And so many entries, each of which may be an inode.
const SPACE_CHECK_ENTRIES: u64 = 4096;

/// Characters of an entry's name that an error shows.
const SHOWN_NAME: usize = 200;

/// Mode and owner that a layer gives to the root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootAttributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What came out of a layer.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// `None`: the layer has no entry for its root.
    pub(super) root: Option<RootAttributes>,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Whether the two are right; not if entries replaced others.
    pub(super) exact: bool,
    /// What is kept beside the layer for its tar.
    pub(super) beside: Tally,
    /// Length of the tar, if that is enough to make it again.
    pub(super) tar_bytes: Option<u64>,
}

/// What went wrong, without the place, which [`unpack`] adds.
#[derive(Debug)]
enum Fault {
    Read(io::Error),
    Format(&'static str),
    Number(&'static str),
    Refused(&'static str),
    Sys {
        step: &'static str,
        source: io::Error,
    },
    Limit {
        what: &'static str,
        limit: u64,
    },
    DiskFull {
        /// Bytes that were to be written.
        coming: u64,
    },
}

/// For `map_err`.
fn sys(step: &'static str) -> impl Fn(Errno) -> Fault {
    move |errno| Fault::Sys {
        step,
        source: errno.into(),
    }
}

/// What a layer is unpacked with.
pub(super) struct Job<'a> {
    pub(super) diff_id: &'a Digest,
    /// An empty directory.
    pub(super) into: &'a Dir,
    /// The directory that `into` is in, for the split.
    pub(super) beside: &'a Dir,
    /// For directories that entries replace; on the same file system.
    pub(super) trash: &'a Trash,
    pub(super) limits: &'a LayerLimits,
    pub(super) compressed: &'a AtomicU64,
}

/// Unpacks and verifies. After an error the directory holds rubbish, for the caller to remove.
pub(super) fn unpack(job: &Job<'_>, tar: impl Read + Send) -> Result<Unpacked, StorageError> {
    let split = Writer::create(job.beside, job.into)?;
    let lost = Lost::new(job.beside, job.into)?;
    let (full_in, full) = sync_channel(source::CHUNKS);
    let (spare, spare_out) = sync_channel(source::CHUNKS + 2);
    thread::scope(|scope| {
        thread::Builder::new()
            .name("layer-read".into())
            .spawn_scoped(scope, move || source::read(tar, &full_in, &spare_out))
            .map_err(StorageError::io(job.into.path(), "start a thread"))?;
        // Applying ends by dropping its end of the channels, which ends the reader.
        let source = Source::new(full, spare, job.limits, job.compressed, split);
        apply_all(job, source, lost)
    })
}

fn apply_all(job: &Job<'_>, source: Source<'_>, lost: Lost<'_>) -> Result<Unpacked, StorageError> {
    let mut archive = Archive::new(source);
    let mut shown = String::new();
    let look = |error| StorageError::io(job.into.path(), "look at its file system")(error);
    let system = rustix::fs::fstatvfs(job.into).map_err(look)?;
    let empty = rustix::fs::fstat(job.into).map_err(look)?;
    let counting = Counting {
        block: system.f_frsize.max(512),
        // In units of 512 bytes whatever the file system.
        directory: u64::try_from(empty.st_blocks).unwrap_or(0) * 512,
    };
    let tree = Tree::new(job.into.as_fd(), job.trash, lost);
    let mut applier = Applier::new(tree, counting);
    let result = apply_entries(job, &mut archive, &mut applier, &mut shown);
    let finished = result.and_then(|()| applier.finish());
    if let Err(fault) = finished {
        return Err(locate(job, fault, archive.offset(), shown));
    }
    check_digest(job, archive.digest())?;
    let implied = applier.tree.implied;
    let (beside, tar_bytes) = keep_rest(job, archive.into_split(), applier.tree.lost)?;
    Ok(Unpacked {
        root: applier.root,
        bytes: applier.bytes + implied * counting.directory,
        inodes: applier.inodes + implied,
        exact: !applier.tree.replaced,
        beside,
        tar_bytes,
    })
}

fn check_digest(job: &Job<'_>, found: String) -> Result<(), StorageError> {
    if found == job.diff_id.digest() {
        return Ok(());
    }
    Err(StorageError::DiffIdMismatch {
        expected: job.diff_id.to_string(),
        found,
    })
}

/// Completes what is kept of the tar; says what that occupies, and how long the tar is.
fn keep_rest(
    job: &Job<'_>,
    mut split: Writer,
    lost: Lost<'_>,
) -> Result<(Tally, Option<u64>), StorageError> {
    let path = || job.beside.path().join(SPLIT_FILE);
    if lost.overflowed {
        split.give_up("its entries replace too many others");
    }
    let mut beside = match lost.finish()? {
        Some(dir) => {
            usage::measure(dir.as_fd()).map_err(StorageError::io(dir.path(), "measure"))?
        }
        None => Tally::default(),
    };
    let finished = split
        .finish()
        .map_err(StorageError::io(path(), "keep the tar's headers"))?;
    match finished {
        Ok(finished) => {
            beside.bytes += finished.bytes.next_multiple_of(4096);
            beside.inodes += 1;
            Ok((beside, Some(finished.tar_bytes)))
        }
        Err(why) => {
            let layer = job.diff_id.to_string();
            tracing::warn!(layer, why, "the tar of this layer cannot be made again");
            job.beside.remove_file(SPLIT_FILE)?;
            Ok((beside, None))
        }
    }
}

fn apply_entries(
    job: &Job<'_>,
    archive: &mut Archive<Source<'_>>,
    applier: &mut Applier<'_>,
    shown: &mut String,
) -> Result<(), Fault> {
    let limits = job.limits;
    let mut entries = 0;
    let mut next_check = (0, 0);
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        shown.clear();
        show(&entry.name, shown);
        if entries > limits.max_entries {
            return Err(Fault::Limit {
                what: "entries",
                limit: limits.max_entries,
            });
        }
        let length = entry
            .sparse
            .as_ref()
            .map_or(entry.size, |sparse| sparse.length);
        if length > limits.max_bytes {
            return Err(Fault::Limit {
                what: "bytes unpacked",
                limit: limits.max_bytes,
            });
        }
        if archive.offset() + entry.size >= next_check.0 || entries >= next_check.1 {
            check_space(job, entry.size)?;
            next_check = (
                archive.offset() + entry.size + SPACE_CHECK_BYTES,
                entries + SPACE_CHECK_ENTRIES,
            );
        }
        applier.apply(&entry, archive)?;
    }
    Ok(())
}

/// Whether `coming` bytes fit and the reserve stays.
fn check_space(job: &Job<'_>, coming: u64) -> Result<(), Fault> {
    let space = look(job).map_err(sys("look at the file system"))?;
    if space.has(coming) {
        Ok(())
    } else {
        Err(Fault::DiskFull { coming })
    }
}

fn look(job: &Job<'_>) -> Result<Space, Errno> {
    let (free, free_inodes) = space::free(job.into.as_fd())?;
    Ok(Space {
        path: job.into.path().to_path_buf(),
        free,
        free_inodes,
        reserve: job.limits.reserve_bytes,
    })
}

/// An entry's name for a message: escaped, so that it cannot act on a terminal, and shortened.
fn show(name: &[u8], into: &mut String) {
    let cut = &name[..name.len().min(SHOWN_NAME)];
    into.extend(cut.utf8_chunks().flat_map(|chunk| {
        let invalid = if chunk.invalid().is_empty() {
            ""
        } else {
            "\u{fffd}"
        };
        chunk
            .valid()
            .chars()
            .chain(invalid.chars())
            .flat_map(char::escape_default)
    }));
    if cut.len() < name.len() {
        into.push('…');
    }
}

fn locate(job: &Job<'_>, fault: Fault, offset: u64, entry: String) -> StorageError {
    let diff_id = job.diff_id.to_string();
    match fault {
        Fault::Read(source) => StorageError::LayerRead { diff_id, source },
        Fault::Format(reason) => StorageError::LayerFormat {
            diff_id,
            offset,
            entry,
            reason: reason.into(),
        },
        Fault::Number(what) => {
            let reason = format!("{what} in a header is no number");
            StorageError::LayerFormat {
                diff_id,
                offset,
                entry,
                reason,
            }
        }
        Fault::Refused(reason) => StorageError::EntryRefused {
            diff_id,
            entry,
            reason,
        },
        // Others write there too, so the kernel may say it first.
        Fault::Sys { source, .. } if is_full(&source) => disk_full(job, 0),
        Fault::Sys { step, source } => StorageError::Entry {
            diff_id,
            entry,
            step,
            source,
        },
        Fault::Limit { what, limit } => StorageError::LayerLimit {
            diff_id,
            entry,
            what,
            limit,
        },
        Fault::DiskFull { coming } => disk_full(job, coming),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn disk_full(job: &Job<'_>, coming: u64) -> StorageError {
    let diff_id = job.diff_id.to_string();
    match look(job) {
        Ok(space) => StorageError::DiskFull {
            diff_id,
            coming,
            space,
        },
        Err(error) => StorageError::io(job.into.path(), "look at its file system")(error),
    }
}
