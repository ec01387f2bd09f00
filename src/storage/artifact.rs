//! OCI artifacts: images that are not run, but hold files.
//!
//! A file of an artifact is a layer of its own, which holds nothing but that file at the path that its
//! title says. So it is leased, shared, mounted, counted and freed as layers are, and an artifact is
//! an image of these layers. Where two files have one path, the later one is seen, as when CRI-O
//! mounts one over the other.
//!
//! One blob may have several paths, in one artifact or in several. Its bytes are there once: each
//! further file is a hard link to the first, for layers are mounted read-only and nothing writes to
//! one that is finished.
//!
//! A layer's name is the digest of what is in it; that of a file's layer is made of the blob's digest
//! and the path, with words before them that no tar archive begins with.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::Arc;

use oci_spec::image::{Digest, ImageConfiguration};
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::Digest as _;

use super::blob_file::{self, BlobFile};
use super::dir::Dir;
use super::document::{CONFIG, MAX_DOCUMENT_BYTES, document};
use super::image::Content;
use super::layer::{DIFF, describe, sha256_hex};
use super::record::LayerRecord;
use super::unpack::EntryPath;
use super::{ImageRecord, LayerInfo, Lease, NewImage, StorageError, Store, usage};

/// How much is written between two looks at the free space.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// How much is read and written at once.
const PIECE_BYTES: usize = 128 << 10;

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    /// The digest of its content.
    pub blob: Digest,
    /// Where it is seen, relative; no component is empty, `.` or `..`.
    pub path: String,
    /// The layer that it is.
    pub layer: Digest,
}

impl ArtifactFile {
    /// The file of a blob that has this title. A leading `/` does not matter, as for an entry of a
    /// layer.
    ///
    /// # Errors
    /// What is wrong with the title as a path: it leads through `..`, is too long, or is empty.
    pub fn new(blob: &Digest, title: &str) -> Result<ArtifactFile, &'static str> {
        let path = EntryPath::parse(title.as_bytes())?;
        if path.is_root() {
            return Err("it names no file");
        }
        let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let name = format!("a file of an artifact\0{blob}\0{path}");
        let layer = format!("sha256:{}", hex::encode(sha2::Sha256::digest(name)));
        Ok(ArtifactFile {
            blob: blob.clone(),
            path,
            layer: Digest::from_str(&layer).map_err(|_| "its layer has no name")?,
        })
    }
}

/// What an artifact has and an image has not.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// The manifest's `artifactType`, or its config's media type.
    pub media_type: String,
    /// Its files, in the manifest's order.
    pub files: Vec<ArtifactFile>,
}

impl Lease {
    /// Writes a file of an artifact, unless it is there. Blocking; reads `content` to its very end,
    /// which its reader must not tell before it has verified what it gave. The file stays as long as
    /// this lease.
    ///
    /// # Errors
    /// [`StorageError::LayerRead`] carries an error of `content` itself; all others are about the
    /// disk. After any error nothing of the file is left.
    pub fn put_file(
        &self,
        file: &ArtifactFile,
        content: impl Read,
    ) -> Result<LayerInfo, StorageError> {
        self.make_file(file, |parent, name| {
            let path = parent.path().join(name);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let made = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))
                .map_err(StorageError::io(&path, "create file"))?;
            // The umask may have taken bits of it.
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o644))
                .map_err(StorageError::io(&path, "chmod"))?;
            self.copy(file, content, File::from(made))
        })
    }

    /// Makes the layer of a file, which `put` puts into the directory under the name that it gets.
    pub(super) fn make_file(
        &self,
        file: &ArtifactFile,
        put: impl FnOnce(&Dir, &str) -> Result<(), StorageError>,
    ) -> Result<LayerInfo, StorageError> {
        self.build(&file.layer, |staging| {
            let root = directory(staging, DIFF)?;
            let (above, name) = blob_file::split(&file.path);
            let mut parent = root;
            for part in above.into_iter().flat_map(|above| above.split('/')) {
                parent = directory(&parent, part)?;
            }
            put(&parent, name)?;
            let held = BlobFile::of(file.blob.as_ref(), &file.path, &parent)?;
            let root = staging.sub(DIFF)?;
            let tally =
                usage::measure(root.as_fd()).map_err(StorageError::io(root.path(), "measure"))?;
            let hex = sha256_hex(&file.layer)?.to_owned();
            let record = LayerRecord {
                file: Some(held),
                ..LayerRecord::new(hex, tally)
            };
            describe(staging, record)
        })
    }

    /// Whether the blob is here, under whatever path; if so it stays as long as this lease.
    pub fn has_blob(&self, file: &ArtifactFile) -> bool {
        self.hold_blob(file).is_some()
    }

    /// Makes the file of a blob that is here under another path. `false`: it is not, or its file
    /// takes no further link. Blocking.
    ///
    /// # Errors
    /// Those of the disk; nothing of the file is left then.
    pub fn link_file(&self, file: &ArtifactFile) -> Result<bool, StorageError> {
        if self.has_layer(&file.layer) {
            return Ok(true);
        }
        let Some((hex, from)) = self.hold_blob(file) else {
            return Ok(false);
        };
        let mut source = self.store.shared.places.layers.sub(&hex)?.sub(DIFF)?;
        let (above, old_name) = blob_file::split(&from.path);
        for part in above.into_iter().flat_map(|above| above.split('/')) {
            source = source.sub(part)?;
        }
        let mut refused = None;
        let linked = self.make_file(file, |parent, name| {
            let none = AtFlags::empty();
            rustix::fs::linkat(source.as_fd(), old_name, parent, name, none).map_err(|error| {
                refused = Some(error);
                StorageError::io(parent.path().join(name), "link file")(error)
            })
        });
        match (linked, refused) {
            (Ok(_), _) => Ok(true),
            (Err(_), Some(error)) => {
                // another copy does as well
                tracing::debug!(blob = from.blob, %error, "a blob's file takes no further link");
                Ok(false)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn hold_blob(&self, file: &ArtifactFile) -> Option<(String, BlobFile)> {
        let blob = file.blob.as_ref();
        let here: Vec<(String, BlobFile)> = {
            let index = self.store.shared.index();
            let files = index.layers.iter().filter_map(|(hex, layer)| {
                let held = layer.info.file.as_ref()?;
                (held.blob == blob).then(|| (hex.clone(), held.clone()))
            });
            files.collect()
        };
        // one may have gone meanwhile
        here.into_iter().find(|(hex, _)| self.hold(hex).is_some())
    }

    fn copy(
        &self,
        file: &ArtifactFile,
        mut content: impl Read,
        mut to: File,
    ) -> Result<(), StorageError> {
        let limit = self.store.shared.settings.limits.max_bytes;
        let mut piece = vec![0; PIECE_BYTES];
        let (mut written, mut next_check) = (0, 0);
        loop {
            let count = content
                .read(&mut piece)
                .map_err(|source| StorageError::LayerRead {
                    diff_id: file.blob.to_string(),
                    source,
                })?;
            if count == 0 {
                return Ok(());
            }
            written += count as u64;
            if written > limit {
                return Err(StorageError::LayerLimit {
                    diff_id: file.blob.to_string(),
                    entry: file.path.clone(),
                    what: "bytes",
                    limit,
                });
            }
            if written >= next_check {
                self.check_space(file)?;
                next_check = written + SPACE_CHECK_BYTES;
            }
            let place = self.store.shared.places.staging.path();
            to.write_all(&piece[..count])
                .map_err(StorageError::io(place, "write an artifact's file"))?;
        }
    }

    fn check_space(&self, file: &ArtifactFile) -> Result<(), StorageError> {
        let space = self.store.space()?;
        if space.has(SPACE_CHECK_BYTES) {
            return Ok(());
        }
        Err(StorageError::DiskFull {
            diff_id: file.blob.to_string(),
            coming: SPACE_CHECK_BYTES,
            space,
        })
    }
}

impl Store {
    /// Makes an artifact of files that are all present (hold a lease meanwhile). Names, durability and
    /// removal are as for [`Store::put_image`]; its id is the manifest's digest, because many
    /// artifacts have the same empty config.
    pub fn put_artifact(
        &self,
        new: &NewImage,
        artifact: NewArtifact,
    ) -> Result<Arc<ImageRecord>, StorageError> {
        let id = hex::encode(sha2::Sha256::digest(&new.manifest));
        if new.config.len() as u64 > MAX_DOCUMENT_BYTES {
            let reason = format!("over {MAX_DOCUMENT_BYTES} bytes long");
            return Err(document(&id, CONFIG, reason));
        }
        let content = Content {
            id,
            config: ImageConfiguration::default(),
            layers: artifact.files.into_iter().map(|file| file.layer).collect(),
            artifact_type: Some(artifact.media_type),
        };
        self.put(content, new)
    }
}

fn directory(parent: &Dir, name: &str) -> Result<Dir, StorageError> {
    let made = parent.create(name, 0o755)?;
    // The umask may have taken bits of it.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
        .map_err(StorageError::io(made.path(), "chmod"))?;
    Ok(made)
}
