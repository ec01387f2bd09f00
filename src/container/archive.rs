//! The archive of a checkpoint, as CRI-O writes it and checkpointctl reads it.
//!
//! One difference: of a directory that the container removed and made again, `deleted.files` does
//! not name the image's files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use serde_json::json;

use super::sources::io_error;
use super::{ContainerError, Record};
use crate::sys::clock;

/// The directory of criu's images, in the scratch directory and in the archive.
pub(super) const IMAGES: &str = "checkpoint";
/// What criu writes beside its images, when it does.
const BESIDE: [&str; 2] = ["stats-dump", "dump.log"];
/// The container's log, under the name of the annotation that holds its path.
const LOG: &str = "io.kubernetes.cri-o.LogPath";
const DIFF: &str = "rootfs-diff.tar";
/// Mount points that the runtime makes: not what the container changed.
const RUNTIMES_OWN: [&str; 7] = [
    "/dev",
    "/dev/shm",
    "/proc",
    "/run",
    "/run/.containerenv",
    "/run/secrets",
    "/sys",
];

/// What the archive is made of.
#[derive(Debug)]
pub(super) struct Archive {
    pub record: Arc<Record>,
    /// The bundle's config.json.
    pub spec: PathBuf,
    /// The container's writable layer.
    pub diff: PathBuf,
    /// Where criu wrote.
    pub scratch: PathBuf,
}

impl Archive {
    /// Writes the archive to `path`, readable for its owner alone.
    pub(super) fn write(&self, path: &Path) -> Result<(), ContainerError> {
        let text = fs::read(&self.spec).map_err(io_error("read", &self.spec))?;
        let spec: Spec = serde_json::from_slice(&text)
            .map_err(|error| io_error("read", &self.spec)(error.into()))?;
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error("make", path))?;
        let filled = self.fill(file, &text, &spec);
        filled.map_err(io_error("write", path))
    }

    fn fill(&self, file: File, text: &[u8], spec: &Spec) -> io::Result<()> {
        let mut tar = builder(file);
        tar.append_dir_all(IMAGES, self.scratch.join(IMAGES))?;
        for name in BESIDE {
            append_if_there(&mut tar, &self.scratch.join(name), name)?;
        }
        append_bytes(&mut tar, "config.dump", self.config()?.as_bytes())?;
        append_bytes(&mut tar, "spec.dump", text)?;
        let mounts = bind_mounts(spec)?;
        if !mounts.is_empty() {
            append_bytes(&mut tar, "bind.mounts", &serde_json::to_vec(&mounts)?)?;
        }
        let (changed, deleted) = self.changes(spec)?;
        if changed {
            append_if_there(&mut tar, &self.scratch.join(DIFF), DIFF)?;
        }
        if !deleted.is_empty() {
            append_bytes(&mut tar, "deleted.files", &serde_json::to_vec(&deleted)?)?;
        }
        if let Some(log) = &self.record.log_path {
            append_if_there(&mut tar, log, LOG)?;
        }
        tar.into_inner()?.sync_all()
    }

    fn config(&self) -> io::Result<String> {
        let record = &self.record;
        let config = json!({
            "id": record.id,
            "name": record.name.to_string(),
            "rootfsImage": record.config.image.user_specified_image,
            "rootfsImageRef": record.image.id,
            "rootfsImageName": record.image.name,
            "runtime": record.runtime.handler,
            "createdTime": super::create::rfc3339(record.created_at_ns),
            "checkpointedTime": super::create::rfc3339(clock::now_ns()),
            "restoredTime": "0001-01-01T00:00:00Z",
            "restored": false,
        });
        Ok(serde_json::to_string(&config)?)
    }

    /// Packs the changed files into the scratch directory; whether there are any, and which of the
    /// image's files were deleted.
    fn changes(&self, spec: &Spec) -> io::Result<(bool, Vec<String>)> {
        let mounts = spec.mounts().iter().flatten();
        let mut skipped: BTreeSet<PathBuf> = mounts
            .filter(|mount| mount.typ().as_deref() == Some("bind"))
            .map(|mount| mount.destination().clone())
            .collect();
        skipped.extend(RUNTIMES_OWN.map(PathBuf::from));
        let mut tar = builder(File::create(self.scratch.join(DIFF))?);
        let (mut changed, mut deleted) = (false, Vec::new());
        let mut waiting = vec![PathBuf::new()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(self.diff.join(&directory))? {
                let path = directory.join(entry?.file_name());
                let file = self.diff.join(&path);
                // Not what a link leads to: that is the host's.
                let facts = fs::symlink_metadata(&file)?;
                let kind = facts.file_type();
                let inside = Path::new("/").join(&path);
                if skipped.contains(&inside) || kind.is_socket() {
                    continue;
                }
                // overlayfs's sign for what is gone.
                if kind.is_char_device() && facts.rdev() == 0 {
                    deleted.push(inside.to_string_lossy().into_owned());
                    continue;
                }
                changed = true;
                tar.append_path_with_name(&file, &path)?;
                if kind.is_dir() {
                    waiting.push(path);
                }
            }
        }
        tar.into_inner()?;
        Ok((changed, deleted))
    }
}

fn builder(file: File) -> tar::Builder<File> {
    let mut tar = tar::Builder::new(file);
    tar.follow_symlinks(false);
    tar
}

fn append_if_there(tar: &mut tar::Builder<File>, path: &Path, name: &str) -> io::Result<()> {
    match File::open(path) {
        Ok(mut file) => tar.append_file(name, &mut file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn append_bytes(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(clock::now_ns() / 1_000_000_000).unwrap_or(0));
    tar.append_data(&mut header, name, bytes)
}

/// What a restore has to find on its node, with what kind of file it is here.
fn bind_mounts(spec: &Spec) -> io::Result<Vec<serde_json::Value>> {
    let mounts = spec.mounts().iter().flatten().filter(|mount| {
        let own = RUNTIMES_OWN
            .iter()
            .any(|own| mount.destination() == Path::new(own));
        mount.typ().as_deref() == Some("bind") && !own
    });
    mounts
        .filter_map(|mount| {
            mount
                .source()
                .as_ref()
                .map(|source| (source, mount.destination()))
        })
        .map(|(source, destination)| {
            let facts = fs::metadata(source)?;
            Ok(json!({
                "source": source,
                "destination": destination,
                "file_type": if facts.is_dir() { "directory" } else { "file" },
                "permissions": facts.mode() & 0o777,
            }))
        })
        .collect()
}
