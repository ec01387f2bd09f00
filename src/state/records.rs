//! Records on disk: one JSON file per object, in the object's own directory.
//!
//! A record is written to a temporary name and renamed over the old one, without fsync: `rename`
//! is atomic against the death of the daemon at any instruction, and a power cut takes the
//! processes that a record describes with it. A file that cannot be understood is never deleted:
//! its directory is moved to the quarantine and reported (`load`).
//!
//! A full disk must not keep a pod from being stopped, so an object whose end is told by its record
//! alone has a spare ([`Versioned::KEEPS_SPARE`]): the record before stays beside the new one, with
//! as much room, and the next is written over it and exchanged with it. That needs no new space.

use std::fs;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Id;
use crate::sys::fault;

/// Name of the record within the object's directory.
pub(super) const RECORD: &str = "record.json";
/// Name that a record has while it is being written.
const UNFINISHED: &str = "record.json.new";
/// Largest record that is written, and read back. A kubelet's largest pods stay below 300 KiB; a
/// client that sends more than this is refused before anything is made for it.
const MAX_RECORD_BYTES: u64 = 32 << 20;

/// What a record on disk has to tell about itself.
pub trait Versioned: Serialize + DeserializeOwned {
    /// What the record is of, for messages: "pod", "container".
    const KIND: &'static str;
    /// The version that this code reads and writes.
    const VERSION: u32;
    /// Whether the record can be written again on a full disk, at the price of as much space.
    const KEEPS_SPARE: bool = false;

    /// The version of this record.
    fn version(&self) -> u32;
}

/// All records of one kind, below one directory.
#[derive(Debug)]
pub struct Records<T> {
    pub(super) directory: PathBuf,
    pub(super) quarantine: PathBuf,
    kind: PhantomData<fn() -> T>,
}

/// A record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file system call on the record failed.
    #[error("record {path}: {step}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another daemon works on these records.
    #[error("{path}: another daemon uses this runroot; stop that first or choose another with --runroot", path = path.display())]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// The record would be larger than is read back.
    #[error(
        "record {path}: {bytes} bytes, and {MAX_RECORD_BYTES} are the most; labels, annotations, environment or mounts are too many or too long",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How large it would be.
        bytes: usize,
    },
    /// The record is not what this version writes.
    #[error("record {path}: {source}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        source: serde_json::Error,
    },
}

impl<T: Versioned> Records<T> {
    /// The records whose objects have their directories below `directory`; creates it.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn open(directory: PathBuf, quarantine: PathBuf) -> Result<Self, RecordError> {
        for path in [&directory, &quarantine] {
            create_private(path).map_err(io_error(path, "create the directory"))?;
        }
        Ok(Self {
            directory,
            quarantine,
            kind: PhantomData,
        })
    }

    /// Writes the record of object `id`, creating the object's directory.
    ///
    /// # Errors
    /// When the file system refuses; the record on disk is then the old one.
    pub fn write(&self, id: &Id, record: &T) -> Result<(), RecordError> {
        let directory = self.directory.join(id.as_str());
        let path = directory.join(RECORD);
        let text = serde_json::to_vec(record).map_err(|source| RecordError::Format {
            path: path.clone(),
            source,
        })?;
        if text.len() as u64 > MAX_RECORD_BYTES {
            let bytes = text.len();
            return Err(RecordError::TooLarge { path, bytes });
        }
        let mut made = false;
        let written = write_into(&directory, &text, T::KEEPS_SPARE, &mut made);
        if written.is_err() && made {
            // Nobody knows of it: it would stay, and with it an inode of a full disk.
            let _left = fs::remove_dir_all(&directory);
        }
        written
    }

    /// Removes the object's directory with all that is in it. Gone already is fine.
    ///
    /// # Errors
    /// When something in it cannot be removed, a mount point for example.
    pub fn remove(&self, id: &Id) -> Result<(), RecordError> {
        let directory = self.directory.join(id.as_str());
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&directory, "remove the directory")(error))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a record's text into the object's directory; `made` says whether that was not there.
fn write_into(
    directory: &Path,
    text: &[u8],
    keeps_spare: bool,
    made: &mut bool,
) -> Result<(), RecordError> {
    let (unfinished, path) = (directory.join(UNFINISHED), directory.join(RECORD));
    // Not emptied: what a spare occupies is the room for this.
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(false);
    let file = match options.open(&unfinished) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_private(directory).map_err(io_error(directory, "create the directory"))?;
            *made = true;
            options.open(&unfinished)
        }
        file => file,
    }
    .map_err(io_error(&unfinished, "create"))?;
    fill(&file, text).map_err(|error| {
        if !keeps_spare {
            // Half a record is of no use, and the disk may be full.
            let _left = fs::remove_file(&unfinished);
        }
        io_error(&unfinished, "write")(error)
    })?;
    fault::point("record.written-aside");
    if keeps_spare && exchange(&unfinished, &path) {
        make_room(&unfinished, text.len() as u64);
        return Ok(());
    }
    fs::rename(&unfinished, &path).map_err(io_error(&path, "rename over the old record"))
}

/// How much longer the next record may be than the last without needing space: the words of a phase.
const MARGIN: u64 = 64;

/// Makes the text the whole of a file.
fn fill(mut file: &fs::File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// Puts the new record in the old one's place and the old one aside. `false`: there is no old one,
/// or the file system cannot do that.
fn exchange(new: &Path, record: &Path) -> bool {
    let both = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, record, both).is_ok()
}

/// Sees to it that the next record, of about `bytes`, can be written over the spare. On a disk that
/// is full already the spare has the room that it has.
fn make_room(spare: &Path, bytes: u64) {
    let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
    if let Ok(file) = fs::File::options().write(true).open(spare) {
        let _full = rustix::fs::fallocate(&file, keep, 0, bytes + MARGIN);
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, RecordError> {
    let file = fs::File::open(path).map_err(io_error(path, "open"))?;
    let mut text = Vec::new();
    file.take(MAX_RECORD_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(io_error(path, "read"))?;
    serde_json::from_slice(&text).map_err(|source| RecordError::Format {
        path: path.to_owned(),
        source,
    })
}

/// Creates a directory that is root's alone: records and bundles hold environments with secrets.
/// What is missing farther up, such as /run/containers after a boot, is not ours alone, and everyone
/// may pass through it: the root of a pod with a user namespace has to.
///
/// # Errors
/// When one of them cannot be made.
pub fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let create = |path: &Path, mode| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
    };
    if let Some(above) = path
        .ancestors()
        .nth(2)
        .filter(|above| *above != Path::new(""))
    {
        create(above, 0o711)?;
    }
    create(path, 0o700)
}

pub(super) fn io_error(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Thing {
        version: u32,
        n: u32,
    }

    impl Versioned for Thing {
        const KIND: &'static str = "thing";
        const VERSION: u32 = 1;

        fn version(&self) -> u32 {
            self.version
        }
    }

    #[derive(Debug, Serialize, serde::Deserialize)]
    struct Text(String);

    impl Versioned for Text {
        const KIND: &'static str = "text";
        const VERSION: u32 = 1;

        fn version(&self) -> u32 {
            1
        }
    }

    #[test]
    fn what_would_not_be_read_back_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let records = Records::open(path("texts"), path("quarantine")).unwrap();
        let long = Text("x".repeat(usize::try_from(MAX_RECORD_BYTES).unwrap()));
        let error = records.write(&Id::random(), &long).unwrap_err();
        assert!(matches!(error, RecordError::TooLarge { .. }), "{error}");
        assert_eq!(fs::read_dir(path("texts")).unwrap().count(), 0);
    }

    fn scratch() -> (tempfile::TempDir, Records<Thing>) {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(
            directory.path().join("things"),
            directory.path().join("quarantine"),
        )
        .unwrap();
        (directory, records)
    }

    fn thing(n: u32) -> Thing {
        Thing { version: 1, n }
    }

    #[test]
    fn a_record_is_read_back_as_written_and_the_last_write_counts() {
        let (_directory, records) = scratch();
        let id = Id::random();
        records.write(&id, &thing(1)).unwrap();
        records.write(&id, &thing(2)).unwrap();
        assert_eq!(records.load().unwrap(), [thing(2)]);
        records.remove(&id).unwrap();
        records.remove(&id).unwrap();
        assert_eq!(records.load().unwrap(), []);
    }

    #[test]
    fn what_cannot_be_understood_is_kept_in_the_quarantine() {
        let (directory, records) = scratch();
        let (half, newer) = (Id::random(), Id::random());
        records.write(&half, &thing(1)).unwrap();
        let path = directory
            .path()
            .join("things")
            .join(half.as_str())
            .join(RECORD);
        fs::write(&path, b"{\"half\": ").unwrap();
        records.write(&newer, &Thing { version: 2, n: 7 }).unwrap();
        assert_eq!(records.load().unwrap(), []);
        let kept = |id: &Id| {
            fs::read(
                directory
                    .path()
                    .join("quarantine")
                    .join(id.as_str())
                    .join(RECORD),
            )
            .unwrap()
        };
        assert_eq!(kept(&half), b"{\"half\": ");
        assert_eq!(kept(&newer), br#"{"version":2,"n":7}"#);
        assert!(!path.exists());
    }

    #[test]
    fn records_and_bundles_are_for_root_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, records) = scratch();
        let id = Id::random();
        records.write(&id, &thing(1)).unwrap();
        for path in ["things".to_owned(), format!("things/{id}")] {
            let mode = fs::metadata(directory.path().join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn what_is_missing_above_the_run_root_can_be_passed_by_everyone() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        create_private(&scratch.path().join("containers/storage/cricket/things")).unwrap();
        let mode = |path: &str| {
            let metadata = fs::metadata(scratch.path().join(path)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("containers"), 0o711);
        assert_eq!(mode("containers/storage/cricket"), 0o700);
        assert_eq!(mode("containers/storage/cricket/things"), 0o700);
    }

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Spared(String);

    impl Versioned for Spared {
        const KIND: &'static str = "spared";
        const VERSION: u32 = 1;
        const KEEPS_SPARE: bool = true;

        fn version(&self) -> u32 {
            1
        }
    }

    /// A tmpfs of this size, gone when dropped.
    struct Small(tempfile::TempDir);

    impl Small {
        fn mount(options: &str) -> Self {
            use nix::mount::{MsFlags, mount};
            let dir = tempfile::tempdir().unwrap();
            let flags = MsFlags::empty();
            mount(
                Some("small"),
                dir.path(),
                Some("tmpfs"),
                flags,
                Some(options),
            )
            .unwrap();
            Self(dir)
        }

        /// Leaves neither a byte nor an inode.
        fn fill(&self) {
            let whole = fs::File::create(self.0.path().join("filler")).unwrap();
            let mut page = [0xff_u8; 4096];
            while (&whole).write_all(&page).is_ok() {
                page[0] ^= 1;
            }
            for number in 0.. {
                if fs::File::create(self.0.path().join(format!("f{number}"))).is_err() {
                    return;
                }
            }
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    }

    #[test]
    fn a_record_with_a_spare_is_written_on_a_full_disk_and_one_without_stays_as_it_was() {
        let small = Small::mount("size=256k,nr_inodes=64");
        let open = |name: &str| small.0.path().join(name);
        let spared = Records::<Spared>::open(open("spared"), open("quarantine")).unwrap();
        let things = Records::<Thing>::open(open("things"), open("quarantine")).unwrap();
        let (one, other) = (Id::random(), Id::random());
        let text = |letter: &str, count: usize| Spared(letter.repeat(count));
        // The first is much shorter than what follows, as a pod's is before it has a network.
        spared.write(&one, &text("a", 100)).unwrap();
        spared.write(&one, &text("b", 9_000)).unwrap();
        things.write(&other, &thing(1)).unwrap();
        small.fill();
        for letter in ["c", "d", "e"] {
            spared.write(&one, &text(letter, 9_010)).unwrap();
            assert_eq!(spared.load().unwrap(), [text(letter, 9_010)]);
        }
        spared.write(&one, &text("f", 10)).unwrap();
        assert_eq!(spared.load().unwrap(), [text("f", 10)]);
        assert!(things.write(&other, &thing(2)).is_err());
        assert_eq!(things.load().unwrap(), [thing(1)]);
        spared.remove(&one).unwrap();
        things.write(&other, &thing(3)).unwrap();
        assert_eq!(things.load().unwrap(), [thing(3)], "there is room again");
    }

    #[test]
    fn what_a_killed_daemon_left_before_its_first_record_is_swept() {
        let (directory, records) = scratch();
        let left = directory.path().join("things").join(Id::random().as_str());
        fs::create_dir(&left).unwrap();
        fs::write(left.join(UNFINISHED), b"{").unwrap();
        assert!(records.load().unwrap().is_empty());
        assert!(!left.exists());
    }
}
