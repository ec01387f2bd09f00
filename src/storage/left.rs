//! What lies in a store, seen without opening it: opening sweeps, and somebody may have it open.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Settings, StorageError};

/// What the directories of a store hold beside images and layers.
#[derive(Debug, Default)]
pub struct Left {
    /// Root filesystems by the name of their container.
    pub roots: Vec<(String, PathBuf)>,
    /// What a daemon was building or deleting. While one runs, it is that one's business.
    pub rubbish: Vec<PathBuf>,
}

/// Looks into the store of these settings. A store that does not exist is empty.
///
/// # Errors
/// When a directory cannot be listed.
pub fn left(settings: &Settings) -> Result<Left, StorageError> {
    let (own, base) = settings.directories();
    let mut left = Left::default();
    for path in list(&own.join("containers"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        left.roots.push((name.into_owned(), path.clone()));
    }
    let mut places = vec![own.join("trash"), base.join("trash"), base.join("staging")];
    places.dedup();
    for place in places {
        left.rubbish.extend(list(&place)?);
    }
    Ok(left)
}

/// The directories below which everything is a store's.
pub fn places(settings: &Settings) -> Vec<PathBuf> {
    let (own, base) = settings.directories();
    let mut places = vec![own, base];
    places.dedup();
    places
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    entries
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(StorageError::io(directory, "list directory"))
}
