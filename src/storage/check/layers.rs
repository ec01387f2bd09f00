//! Layers: each is made into its tar again, whose digest is its name, and compared with what that
//! tar says of each file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use oci_spec::image::Digest;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::{Depth, Examination, Places, Progress, Subject, Watch, names, shown};
use crate::storage::dir::Dir;
use crate::storage::layer::DIFF;
use crate::storage::open::load_layer;
use crate::storage::split::reader::Reader;
use crate::storage::unpack::{self, Difference};
use crate::storage::{ArtifactFile, StorageError, Store, usage};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// How often it is told how far a layer has come.
const TELL_BYTES: u64 = 64 << 20;
/// How deep the only file of an artifact's layer may lie: a path has 4096 bytes.
const MAX_DEPTH: usize = 2048;

pub(super) fn examine(
    places: &Places,
    open: Option<&Store>,
    depth: Depth,
    watch: &mut Watch<'_>,
    found: &mut Examination,
) -> Result<(), StorageError> {
    let Some(layers) = &places.layers else {
        return Ok(());
    };
    let all = names(Some(layers))?;
    let mut progress = Progress {
        of: all.len(),
        ..Progress::default()
    };
    let referenced: BTreeSet<String> = found.referenced().into_iter().map(str::to_owned).collect();
    for name in all {
        let hex = shown(&name);
        // While a store is open what it does not know is just being removed, or was never its.
        let lease = open.map(Store::lease);
        let digest = Digest::from_str(&format!("sha256:{hex}")).ok();
        let is_held = lease
            .as_ref()
            .zip(digest.as_ref())
            .is_some_and(|(lease, digest)| lease.has_layer(digest));
        if open.is_some() && !is_held {
            continue;
        }
        if open.is_none() && !referenced.contains(&hex) {
            found.unreferenced.push((hex.clone(), age(layers, &hex)));
        }
        let mut verifier = Verifier { progress, watch };
        match verifier.one(layers, &name, depth) {
            Ok(Verdict::Good) => {}
            Ok(Verdict::GoodByContent) => found.by_content.push(hex),
            Ok(Verdict::Unknown) => found.unverifiable.push(hex),
            Err(StorageError::Ended) => return Err(StorageError::Ended),
            Err(error) => found.fault(Subject::Layer(hex), error),
        }
        progress = verifier.progress;
        progress.layers += 1;
        if !watch(progress) {
            return Err(StorageError::Ended);
        }
    }
    (found.layers, found.bytes) = (progress.layers, progress.bytes);
    Ok(())
}

fn age(layers: &Dir, hex: &str) -> Duration {
    let modified = std::fs::metadata(layers.path().join(hex)).and_then(|found| found.modified());
    let age = modified.ok().and_then(|at| at.elapsed().ok());
    age.unwrap_or_default()
}

enum Verdict {
    Good,
    /// As far as contents and the number of files say it.
    GoodByContent,
    /// The version that unpacked it kept nothing to verify it by.
    Unknown,
}

struct Verifier<'a, 'b> {
    progress: Progress,
    watch: &'a mut Watch<'b>,
}

impl<'b> Verifier<'_, 'b> {
    fn one(&mut self, layers: &Dir, name: &OsStr, depth: Depth) -> Result<Verdict, StorageError> {
        let entry = load_layer(layers, name)?;
        let hex = entry.info.diff_id;
        let dir = layers.sub(&hex)?;
        let diff = dir.sub(DIFF)?;
        if depth == Depth::Quick {
            return Ok(Verdict::Good);
        }
        let diff_id = format!("sha256:{hex}");
        if entry.tar_bytes.is_none() {
            return self.only_file(&dir, &diff_id);
        }
        let tally = usage::measure(dir.as_fd()).map_err(StorageError::io(dir.path(), "measure"))?;
        let mut reader = Reader::open(&diff_id, &dir, dir.sub(DIFF)?)?;
        let mut tar = self.hashed(|buffer| reader.read(buffer));
        let different = match entry.is_plain {
            true => unpack::compare(&diff_id, &diff, &mut tar),
            false => Ok(Vec::new()),
        };
        let is = tar.finish()?;
        if is != hex {
            return Err(StorageError::DiffIdMismatch {
                expected: diff_id,
                found: is,
            });
        }
        let different = different?;
        if let [Difference { path, reason }, others @ ..] = &different[..] {
            let (path, mut reason) = (diff.path().join(path), reason.clone());
            if !others.is_empty() {
                reason = format!("{reason}, and {} more are not as they were", others.len());
            }
            return Err(StorageError::LayerChanged {
                diff_id,
                path,
                reason,
            });
        }
        // The directory itself and its record are not counted in the record.
        let expected = entry.info.inodes + 2;
        if tally.inodes != expected {
            let (has, was) = (tally.inodes, expected);
            return Err(StorageError::LayerChanged {
                diff_id,
                path: dir.path().to_path_buf(),
                reason: format!("it has {has} files and directories where there were {was}"),
            });
        }
        Ok(match entry.is_plain {
            true => Verdict::Good,
            false => Verdict::GoodByContent,
        })
    }

    fn hashed<R>(&mut self, read: R) -> Hashed<'_, 'b, R>
    where
        R: FnMut(&mut [u8]) -> Result<usize, StorageError>,
    {
        Hashed {
            read,
            hash: Sha256::new(),
            failed: None,
            next: self.progress.bytes + TELL_BYTES,
            progress: &mut self.progress,
            watch: self.watch,
        }
    }

    /// A layer that is a file of an artifact is named after the file's digest and path.
    fn only_file(&mut self, layer: &Dir, diff_id: &str) -> Result<Verdict, StorageError> {
        let Some((path, mut file)) = only_file(layer.sub(DIFF)?)? else {
            return Ok(Verdict::Unknown);
        };
        let place = layer.path().join(DIFF).join(&path);
        let read = |buffer: &mut [u8]| file.read(buffer).map_err(StorageError::io(&place, "read"));
        let blob = format!("sha256:{}", self.hashed(read).finish()?);
        let named = Digest::from_str(&blob)
            .ok()
            .and_then(|blob| ArtifactFile::new(&blob, &path).ok());
        Ok(match named {
            Some(file) if file.layer.as_ref() == diff_id => Verdict::Good,
            // A layer of an image may also be one file.
            _ => Verdict::Unknown,
        })
    }
}

/// Bytes that are hashed on their way to whoever looks at them. Tells now and then how far it has
/// come, and hears whether to go on.
struct Hashed<'a, 'b, R> {
    read: R,
    hash: Sha256,
    /// Why there is no more.
    failed: Option<StorageError>,
    progress: &'a mut Progress,
    watch: &'a mut Watch<'b>,
    /// When to tell next.
    next: u64,
}

impl<R: FnMut(&mut [u8]) -> Result<usize, StorageError>> Hashed<'_, '_, R> {
    fn pass(&mut self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let count = (self.read)(buffer)?;
        self.hash.update(&buffer[..count]);
        self.progress.bytes += count as u64;
        if self.progress.bytes >= self.next {
            self.next = self.progress.bytes + TELL_BYTES;
            if !(self.watch)(*self.progress) {
                return Err(StorageError::Ended);
            }
        }
        Ok(count)
    }

    /// The sha256 of all of it in hex, whether or not it was read to its end.
    fn finish(mut self) -> Result<String, StorageError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.failed.is_none() && self.pass(&mut buffer)? > 0 {}
        match self.failed {
            Some(error) => Err(error),
            None => Ok(hex::encode(self.hash.finalize())),
        }
    }
}

impl<R: FnMut(&mut [u8]) -> Result<usize, StorageError>> Read for Hashed<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pass(buffer).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::Other.into()
        })
    }
}

/// The file below a directory that holds nothing else, with its path.
fn only_file(mut dir: Dir) -> Result<Option<(String, File)>, StorageError> {
    let mut path = String::new();
    for _ in 0..MAX_DEPTH {
        let [name] = &dir.names()?[..] else {
            return Ok(None);
        };
        let Some(name) = name.to_str() else {
            return Ok(None);
        };
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::LOOP) => return Ok(None),
            Err(error) => return Err(StorageError::io(dir.path().join(name), "open")(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| {
            StorageError::io(dir.path().join(name), "stat")(io::Error::from(error))
        })?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(Some((path, File::from(fd)))),
            FileType::Directory => dir = dir.sub(name)?,
            _ => return Ok(None),
        }
    }
    Ok(None)
}
