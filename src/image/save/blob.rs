//! A layer as it lies in the archive: as it is, or packed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use oci_spec::image::Digest;
use sha2::{Digest as _, Sha256};

use super::super::error::ImageError;
use super::Packing;
use super::stream::{Output, Tar, failed};
use crate::storage::{LayerTar, StorageError, Store};

/// What gzip itself and containers/image take.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// A blob as a descriptor names it.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) media_type: &'static str,
    /// sha256, hex.
    pub(super) hex: String,
    pub(super) size: u64,
}

/// Writes a layer into the archive as `blobs/sha256/<digest>`.
pub(super) fn layer(
    store: &Store,
    diff_id: &Digest,
    packing: Packing,
    tar: &mut Tar<'_>,
) -> Result<Blob, ImageError> {
    let what = format!("layer {diff_id}");
    let mut content = open(store, diff_id)?;
    let media_type = match packing {
        Packing::None => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    if packing == Packing::None {
        let (hex, size) = (diff_id.digest().to_owned(), content.length());
        tar.file(&blob_name(&hex), size, &mut content, true)?;
        return Ok(Blob {
            media_type,
            hex,
            size,
        });
    }
    // Neither packing makes anything longer by more than a hundredth.
    let most = content.length() + content.length() / 100 + (1 << 20);
    let file = store
        .scratch_file(most)
        .map_err(|source| storage(&what, source))?;
    let packed = pack(&mut content, packing, file, tar.output);
    let (mut file, hex, size) = packed.map_err(|error| failed(&what, error))?;
    tar.file(&blob_name(&hex), size, &mut file, false)?;
    Ok(Blob {
        media_type,
        hex,
        size,
    })
}

/// Opens a layer's tar.
pub(super) fn open(store: &Store, diff_id: &Digest) -> Result<LayerTar, ImageError> {
    let opened = store.layer_tar(diff_id);
    opened.map_err(|source| storage(&format!("layer {diff_id}"), source))
}

/// The name of a blob in a layout.
pub(super) fn blob_name(hex: &str) -> String {
    format!("blobs/sha256/{hex}")
}

fn storage(what: &str, source: StorageError) -> ImageError {
    ImageError::Storage {
        what: what.to_owned(),
        source: Arc::new(source),
    }
}

/// Packs all of `content` into `file`, which is then at its beginning; says its sha256 and its length.
fn pack(
    content: &mut dyn Read,
    packing: Packing,
    file: File,
    output: &mut Output,
) -> io::Result<(File, String, u64)> {
    let hashed = Hashed {
        inner: file,
        hash: Sha256::new(),
        bytes: 0,
    };
    let hashed = match packing {
        Packing::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(hashed, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            feed(content, &mut encoder, output)?;
            encoder.finish()?
        }
        Packing::Gzip | Packing::None => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(hashed, level);
            feed(content, &mut encoder, output)?;
            encoder.finish()?
        }
    };
    let mut file = hashed.inner;
    file.seek(SeekFrom::Start(0))?;
    Ok((file, hex::encode(hashed.hash.finalize()), hashed.bytes))
}

fn feed(content: &mut dyn Read, into: &mut dyn Write, output: &mut Output) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        into.write_all(&buffer[..count])?;
        output.read(count as u64)?;
    }
}

/// Hashes and counts what is written.
struct Hashed {
    inner: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
