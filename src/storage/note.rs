//! Notes of other rooms beside their images: small, lost without harm, gone when the store is.

use super::{StorageError, Store};

/// Bytes of a note that are read.
const MAX_NOTE_BYTES: u64 = 4 << 20;

impl Store {
    /// The note of this name (a constant of the caller's), if there is one. Reads the disk.
    pub fn note(&self, name: &'static str) -> Result<Option<Vec<u8>>, StorageError> {
        let base = &self.shared.places.base;
        let file = format!("{name}.json");
        if !base.has(&file) {
            return Ok(None);
        }
        base.read(&file, MAX_NOTE_BYTES).map(Some)
    }

    /// Replaces it.
    pub fn put_note(&self, name: &'static str, bytes: &[u8]) -> Result<(), StorageError> {
        self.shared
            .places
            .base
            .replace(&format!("{name}.json"), bytes)
    }
}
