//! A directory whose archives are loaded when the daemon starts, for nodes without a registry.
//!
//! What has been loaded is noted with size, time and inode of the file, and the ids of its images: an
//! archive is read again only when it has changed, or when an image of it is no longer here. A failure
//! is logged and tried again at the next start.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::Images;
use super::super::error::ImageError;
use super::Source;
use crate::storage::Store;
use crate::sys::blocking;

/// The name of the note in the store.
const NOTE: &str = "archives";
/// The version of the note.
const VERSION: u32 = 1;
/// Archives in the directory.
const MAX_ARCHIVES: usize = 4096;
/// How an archive's file name ends; of a directory it is not asked.
const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"];

/// What was loaded, by the archive's file name.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    version: u32,
    /// The directory that it is about.
    directory: PathBuf,
    archives: BTreeMap<String, Known>,
}

/// An archive that was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    stamp: Stamp,
    /// Ids of its images.
    images: Vec<String>,
}

/// What changes with a file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    mtime_s: i64,
    mtime_ns: i64,
    inode: u64,
}

impl Images {
    /// Loads the archives and layouts in `directory` that are new or have changed, one after the
    /// other in the order of their names. Logs what goes wrong.
    pub async fn load_directory(&self, directory: PathBuf) {
        let store = self.settings.store.clone();
        let of = directory.clone();
        let found = blocking::<_, ImageError>(move || Ok((found(&of)?, Note::read(&store, &of))));
        let (found, mut note) = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "archives of images are not loaded");
                return;
            }
        };
        // What is gone from the directory is forgotten, its images stay.
        note.archives.retain(|name, _| found.contains_key(name));
        let (mut loaded, mut failed, seen) = (0, 0, found.len());
        for (name, stamp) in found {
            if note
                .archives
                .get(&name)
                .is_some_and(|known| self.has_all(known, &stamp))
            {
                continue;
            }
            let path = directory.join(&name);
            note.archives.remove(&name);
            match self.load(&path).await {
                Ok(images) => {
                    loaded += 1;
                    let names: Vec<&String> =
                        images.iter().flat_map(|image| &image.names).collect();
                    tracing::info!(archive = %path.display(), ?names, "archive loaded");
                    let images = images.into_iter().map(|image| image.id).collect();
                    note.archives.insert(name, Known { stamp, images });
                }
                Err(error) => {
                    failed += 1;
                    tracing::error!(%error, "archive not loaded; it is tried again at the next start");
                }
            }
        }
        let store = self.settings.store.clone();
        let kept = blocking(move || note.keep(&store));
        if let Err(error) = kept.await {
            tracing::warn!(%error, "all archives will be read again at the next start");
        }
        tracing::info!(directory = %directory.display(), seen, loaded, failed, "archives of images");
    }

    /// Whether an archive need not be read.
    fn has_all(&self, known: &Known, stamp: &Stamp) -> bool {
        let here = |id: &String| self.settings.store.image(id).is_some();
        known.stamp == *stamp && known.images.iter().all(here)
    }
}

/// The archives in the directory. One that is not there has none.
fn found(directory: &Path) -> Result<BTreeMap<String, Stamp>, ImageError> {
    let source = Source(directory);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(source.error(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| source.error(error))?;
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        match stamp(&entry.path(), &file_name) {
            Some(stamp) => {
                found.insert(name.to_owned(), stamp);
            }
            None => tracing::debug!(name, "no archive of images"),
        }
        if found.len() > MAX_ARCHIVES {
            return Err(source.error(format!("more than the limit of {MAX_ARCHIVES} archives")));
        }
    }
    Ok(found)
}

/// The stamp of an archive, or of a layout by its index; `None`: it is neither.
fn stamp(path: &Path, name: &OsStr) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    let metadata = match metadata.is_dir() {
        true => std::fs::metadata(path.join("oci-layout"))
            .and_then(|_| std::fs::metadata(path.join("index.json")))
            .ok()?,
        false => metadata,
    };
    let name = name.to_string_lossy();
    let is_archive = ENDINGS.iter().any(|ending| name.ends_with(ending));
    let wanted = metadata.is_file() && (is_archive || path.is_dir());
    wanted.then(|| Stamp {
        size: metadata.len(),
        mtime_s: metadata.mtime(),
        mtime_ns: metadata.mtime_nsec(),
        inode: metadata.ino(),
    })
}

impl Note {
    /// The note about `directory`. One that cannot be read is as good as none.
    fn read(store: &Store, directory: &Path) -> Note {
        let bytes = store.note(NOTE).unwrap_or_else(|error| {
            tracing::warn!(%error, "all archives are read again");
            None
        });
        let note = bytes.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
        note.filter(|note| note.version == VERSION && note.directory == directory)
            .unwrap_or_else(|| Note {
                version: VERSION,
                directory: directory.to_owned(),
                archives: BTreeMap::new(),
            })
    }

    fn keep(&self, store: &Store) -> Result<(), ImageError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| ImageError::malformed("note about archives", error))?;
        store
            .put_note(NOTE, &bytes)
            .map_err(|source| ImageError::Storage {
                what: "note about archives".into(),
                source: std::sync::Arc::new(source),
            })
    }
}
