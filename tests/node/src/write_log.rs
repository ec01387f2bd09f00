//! What a disk with a volatile cache can hold after a power cut, from QEMU's log of its writes.
//!
//! QEMU's `blklogwrites` notes each write when it is done, and each flush after it, in the format of
//! Linux's dm-log-writes: a superblock, then for each entry a sector with its head and the data. A
//! write that was done before a flush began stands before it in the log, and is on the disk for
//! certain. Of what came after the last flush any part may be: that is what a cut in QEMU alone does
//! not show, since the host keeps every write that the guest has made.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::NodeError;
use crate::image::run;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
/// All flags of the format.
const FLAGS: u64 = 15;
/// A piece of this size is written whole or not at all; a write of several may be torn between them.
const PIECE: usize = 4096;
/// A guest's disk requests are far smaller.
const MAX_WRITE: u64 = 64 << 20;

/// A log that is complete.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Everything before it is on the disk.
    Flush,
    /// `length` bytes at `to` of the disk; at `from` of the log, or zeros.
    Write {
        to: u64,
        from: Option<u64>,
        length: u64,
    },
}

/// A disk as cuts leave it, later and later ones.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a WriteLog,
    /// The disk with all that is certain before entry `done`.
    disk: PathBuf,
    done: usize,
}

impl WriteLog {
    /// Reads the heads of the entries; the data stays in the file.
    pub fn open(path: &Path) -> Result<WriteLog, NodeError> {
        let step = || NodeError::io(path.display().to_string());
        let malformed = |text: String| NodeError::Malformed(format!("{}: {text}", path.display()));
        let file = File::open(path).map_err(step())?;
        let mut head = [0; 32];
        file.read_exact_at(&mut head, 0).map_err(step())?;
        let [magic, version, count, sector] = numbers(&head);
        let sector = sector & 0xffff_ffff;
        if magic != MAGIC || version != 1 || !(512..=65536).contains(&sector) {
            return Err(malformed("no log of writes of version 1".into()));
        }
        let mut entries = Vec::new();
        let mut at = sector;
        for index in 0..count {
            file.read_exact_at(&mut head, at).map_err(step())?;
            let [to, sectors, flags, _] = numbers(&head);
            let length = sectors.saturating_mul(sector);
            if flags & !FLAGS != 0 || (flags & DISCARD == 0 && length > MAX_WRITE) {
                let text = format!("entry {index}: flags {flags:#x}, {length} bytes");
                return Err(malformed(text));
            }
            at += sector;
            let to = to.saturating_mul(sector);
            if flags & FLUSH != 0 {
                entries.push(Entry::Flush);
            } else if flags & DISCARD != 0 {
                entries.push(Entry::Write {
                    to,
                    from: None,
                    length,
                });
            } else {
                entries.push(Entry::Write {
                    to,
                    from: Some(at),
                    length,
                });
                at += length;
            }
        }
        Ok(WriteLog { file, entries })
    }

    /// How many entries it has: moments to cut at.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Starts with `disk`, which holds what it held before the first write; it is changed.
    pub fn replay(&self, disk: PathBuf) -> Replay<'_> {
        Replay {
            log: self,
            disk,
            done: 0,
        }
    }

    fn apply(&self, disk: &File, entry: Entry, mut keep: impl FnMut() -> bool) -> io::Result<()> {
        let Entry::Write { to, from, length } = entry else {
            return Ok(());
        };
        let mut piece = vec![0; PIECE];
        let mut done = 0;
        while done < length {
            let size = (length - done).min(PIECE as u64);
            let bytes = &mut piece[..usize::try_from(size).map_err(io::Error::other)?];
            if keep() {
                match from {
                    Some(from) => self.file.read_exact_at(bytes, from + done)?,
                    None => bytes.fill(0),
                }
                disk.write_all_at(bytes, to + done)?;
            }
            done += size;
        }
        Ok(())
    }
}

impl Replay<'_> {
    /// Makes `into` the disk after a cut at entry `at`, which must not be before an earlier one.
    /// Of what was not flushed by then each piece is there or not as `luck` says. Gives how many
    /// pieces were in doubt.
    pub fn cut(
        &mut self,
        at: usize,
        into: &Path,
        mut luck: impl FnMut() -> bool,
    ) -> Result<usize, NodeError> {
        let entries = self.log.entries.get(..at).unwrap_or(&self.log.entries);
        let certain = entries
            .iter()
            .rposition(|entry| *entry == Entry::Flush)
            .unwrap_or_default();
        let step = |path: &Path| NodeError::io(format!("replay to {}", path.display()));
        let open = |path: &Path| OpenOptions::new().write(true).open(path);
        let disk = open(&self.disk).map_err(step(&self.disk))?;
        for entry in entries.get(self.done..certain).unwrap_or_default() {
            let applied = self.log.apply(&disk, *entry, || true);
            applied.map_err(step(&self.disk))?;
        }
        self.done = self.done.max(certain);
        let mut copy = std::process::Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto", "--"]);
        run(copy.arg(&self.disk).arg(into))?;
        let state = open(into).map_err(step(into))?;
        let mut doubt = 0;
        for entry in &entries[certain..] {
            let decide = || {
                doubt += 1;
                luck()
            };
            let applied = self.log.apply(&state, *entry, decide);
            applied.map_err(step(into))?;
        }
        Ok(doubt)
    }
}

/// A seeded source of chance, so that a run can be had again (xorshift64*).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A seed that nobody has used.
    pub fn seed() -> Result<u64, NodeError> {
        let mut bytes = [0; 4];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.map_err(NodeError::io("/dev/urandom"))?;
        Ok(u64::from(u32::from_le_bytes(bytes)))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end.max(1) as u64;
        usize::try_from((self.number() >> 16) % end).unwrap_or_default()
    }
}

fn numbers(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|index| {
        let piece = &bytes[index * 8..index * 8 + 8];
        piece
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A log with sectors of 512 bytes; a write is its first sector and one byte for all of it.
    fn log(entries: &[(u64, u64, u64, u8)]) -> Vec<u8> {
        let head = |fields: [u64; 4]| {
            let mut sector: Vec<u8> = fields
                .iter()
                .flat_map(|field| field.to_le_bytes())
                .collect();
            sector.resize(512, 0);
            sector
        };
        let mut bytes = head([MAGIC, 1, entries.len() as u64, 512]);
        for (to, sectors, flags, fill) in entries {
            bytes.extend(head([*to, *sectors, *flags, 0]));
            if flags & (FLUSH | DISCARD) == 0 {
                bytes.extend(vec![*fill; usize::try_from(sectors * 512).unwrap()]);
            }
        }
        bytes
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_is_as_luck_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let [file, disk, state] = ["log", "disk", "state"].map(|name| dir.path().join(name));
        // Two pieces at 0, flush, the second of them again, zeros over the first, flush, end.
        let entries = [
            (0, 16, 0, 1),
            (0, 0, FLUSH, 0),
            (8, 8, 0, 2),
            (0, 8, DISCARD, 0),
            (0, 0, FLUSH, 0),
        ];
        std::fs::write(&file, log(&entries)).unwrap();
        let log = WriteLog::open(&file).unwrap();
        assert_eq!(log.len(), 5);
        let table = [
            (1, true, 2, [1, 1]),
            (1, false, 2, [9, 9]),
            (2, false, 0, [1, 1]),
            (4, true, 2, [0, 2]),
            (4, false, 2, [1, 1]),
            (5, false, 0, [0, 2]),
        ];
        for (at, luck, doubt, expected) in table {
            std::fs::write(&disk, [9; 2 * PIECE]).unwrap();
            let mut replay = log.replay(disk.clone());
            assert_eq!(
                replay.cut(at, &state, || luck).unwrap(),
                doubt,
                "cut at {at}"
            );
            let bytes = std::fs::read(&state).unwrap();
            let pieces: Vec<_> = bytes.chunks(PIECE).collect();
            for (piece, value) in pieces.iter().zip(expected) {
                assert!(
                    piece.iter().all(|byte| *byte == value),
                    "cut at {at}, {luck}"
                );
            }
        }
        std::fs::write(&disk, [9; 2 * PIECE]).unwrap();
        let mut replay = log.replay(disk);
        for (at, expected) in [(1, 9), (2, 1), (3, 1), (5, 0)] {
            replay.cut(at, &state, || false).unwrap();
            assert_eq!(
                std::fs::read(&state).unwrap()[0],
                expected,
                "in a row, {at}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let mut huge = log(&[(0, 1, 0, 1)]);
        huge[512 + 8..512 + 16].fill(0x7f);
        let mut short = log(&[(0, 1, 0, 1)]);
        short[16] = 9;
        let flags = log(&[(0, 1, 64, 1)]);
        for bytes in [b"short".to_vec(), vec![0; 512], huge, short, flags] {
            std::fs::write(&file, &bytes).unwrap();
            WriteLog::open(&file).unwrap_err();
        }
    }
}
