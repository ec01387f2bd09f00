//! The tar that a layer was unpacked from, byte for byte, from its split and its files.

use std::io::{self, Read};

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use super::layer::{DIFF, sha256_hex};
use super::split::reader::Reader;
use super::{Lease, StorageError, Store};

/// Bytes that are read at once where nobody gives a buffer.
#[cfg(test)]
const BUFFER_BYTES: usize = 128 << 10;

/// A layer's tar as it was when it was unpacked. The last read, the one that gives 0, comes only
/// after the digest of all bytes was the layer's diff id. Keeps the layer. Reads the disk.
///
/// An error of [`Read`] wraps a [`StorageError`]; [`LayerTar::error`] takes it out.
pub struct LayerTar {
    reader: Reader,
    diff_id: Digest,
    length: u64,
    hash: Option<Sha256>,
    _lease: Lease,
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerTar({})", self.diff_id)
    }
}

impl Store {
    /// Opens the tar of a layer.
    ///
    /// # Errors
    /// [`StorageError::LayerMissing`], and [`StorageError::NoLayerTar`] for a layer that keeps too
    /// little of its tar.
    pub fn layer_tar(&self, diff_id: &Digest) -> Result<LayerTar, StorageError> {
        let lease = self.lease();
        lease.has_layer(diff_id);
        let length = self.layer_tar_length(diff_id)?;
        let layer = self.shared.places.layers.sub(sha256_hex(diff_id)?)?;
        let diff = layer.sub(DIFF)?;
        Ok(LayerTar {
            reader: Reader::open(diff_id.as_ref(), &layer, diff)?,
            diff_id: diff_id.clone(),
            length,
            hash: Some(Sha256::new()),
            _lease: lease,
        })
    }

    /// The length of a layer's tar in bytes. From memory.
    ///
    /// # Errors
    /// As [`Store::layer_tar`].
    pub fn layer_tar_length(&self, diff_id: &Digest) -> Result<u64, StorageError> {
        let hex = sha256_hex(diff_id)?;
        let index = self.shared.index();
        let diff_id = diff_id.to_string();
        match index.layers.get(hex).map(|layer| layer.tar_bytes) {
            Some(Some(length)) => Ok(length),
            Some(None) => Err(StorageError::NoLayerTar { diff_id }),
            None => Err(StorageError::LayerMissing {
                diff_id,
                wanted_by: "reading its tar".into(),
            }),
        }
    }

    /// Reads a layer's tar to its end: whether every file of it still holds what was unpacked. Of an
    /// unchanged layer it returns the length of the tar. What has no content (links, devices, owners
    /// and modes) is not looked at.
    ///
    /// # Errors
    /// [`StorageError::LayerChanged`] names the first file that is not as it was; otherwise as
    /// [`Store::layer_tar`].
    #[cfg(test)]
    pub fn verify_layer(&self, diff_id: &Digest) -> Result<u64, StorageError> {
        let mut tar = self.layer_tar(diff_id)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        while tar.next(&mut buffer)? > 0 {}
        Ok(tar.length)
    }
}

impl LayerTar {
    /// How long the tar is.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What an error of [`Read`] for this says.
    pub fn error(error: &io::Error) -> Option<&StorageError> {
        error.get_ref()?.downcast_ref()
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let count = self.reader.read(buffer)?;
        let Some(hash) = &mut self.hash else {
            return Ok(count);
        };
        hash.update(&buffer[..count]);
        if count == 0
            && !buffer.is_empty()
            && let Some(hash) = self.hash.take()
        {
            let found = hex::encode(hash.finalize());
            if found != self.diff_id.digest() {
                return Err(StorageError::DiffIdMismatch {
                    expected: self.diff_id.to_string(),
                    found,
                });
            }
        }
        Ok(count)
    }
}

impl Read for LayerTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(io::Error::other)
    }
}
