//! The blocking half of a layer's way: verify what comes, inflate it, hand it to storage.
//!
//! One pass without a copy: the bytes of a chunk are hashed where they lie, the decoder reads them
//! from there. The stream tells its end only after size and digest were right, so storage, which
//! needs the end to finish a layer, never finishes one whose packed bytes were wrong.

use std::io::{self, BufRead, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Descriptor, Digest};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::error::ImageError;
use super::progress::LayerProgress;
use super::zstd_frames::{Frames, LargeWindow, is_zstd};
use crate::storage::{ArtifactFile, Lease, StorageError};

/// What the network side sends. A channel that closes without `End` was cancelled.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// The download failed.
    Failed(ImageError),
    /// All bytes were sent.
    End,
}

/// What becomes of a blob.
#[derive(Debug, Clone)]
pub(super) enum Into {
    /// The layer of an image, whose unpacked tar has this digest.
    Layer(Digest),
    /// The file of an artifact, as it is.
    File(ArtifactFile),
}

impl Into {
    /// The layer of the store that it becomes.
    pub(super) fn layer(&self) -> &Digest {
        match self {
            Into::Layer(diff_id) => diff_id,
            Into::File(file) => &file.layer,
        }
    }

    /// What is fetched once, whoever wants it: a layer's content, a file's blob, whatever its path.
    pub(super) fn key(&self) -> &str {
        match self {
            Into::Layer(diff_id) => diff_id.digest(),
            Into::File(file) => file.blob.digest(),
        }
    }
}

/// A layer to be unpacked.
#[derive(Debug)]
pub(super) struct Job {
    /// Keeps the layer once it is there.
    pub lease: Arc<Lease>,
    /// What the layer is to be.
    pub into: Into,
    /// The packed bytes' digest and size, where they are promised (an archive of docker's has none).
    pub blob: Option<Descriptor>,
    /// The layer and where it came from, for errors.
    pub what: String,
    /// Where it asks for a large window, if it needs one.
    pub window: LargeWindow,
    /// Who watches, if anyone.
    pub progress: Option<Arc<LayerProgress>>,
}

impl Job {
    /// Unpacks the layer from its packed bytes. Blocking.
    pub(super) fn run<R: BufRead + Send>(self, source: R) -> Result<(), ImageError> {
        let compressed = Arc::new(AtomicU64::new(0));
        let verified = Verified {
            inner: source,
            hasher: Sha256::new(),
            hashed_ahead: 0,
            compressed: Arc::clone(&compressed),
            expected: self.blob,
            what: self.what.clone(),
        };
        let unpacked = match &self.into {
            Into::Layer(diff_id) => {
                let reader = LayerReader::new(verified, self.window)
                    .map_err(|error| from_read(&error, &self.what))?;
                let reader = Watched {
                    inner: reader,
                    progress: self.progress,
                };
                self.lease.unpack_layer(diff_id, reader, &compressed)
            }
            Into::File(file) => {
                let reader = Watched {
                    inner: verified,
                    progress: self.progress,
                };
                self.lease.put_file(file, reader)
            }
        };
        unpacked.map(drop).map_err(|error| match error {
            StorageError::LayerRead { source, .. } => from_read(&source, &self.what),
            other => ImageError::Storage {
                what: self.what.clone(),
                source: Arc::new(other),
            },
        })
    }
}

/// Our own error where a reader of this file carried it, else the reader's words.
fn from_read(error: &io::Error, what: &str) -> ImageError {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ImageError>())
    {
        Some(inner) => inner.clone(),
        None => ImageError::malformed(what, error),
    }
}

/// The receiving end of a download as a blocking reader.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Pieces {
    pub(super) fn new(receiver: mpsc::Receiver<Piece>) -> Pieces {
        Pieces {
            receiver,
            current: Bytes::new(),
            ended: false,
        }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::Failed(error)) => return Err(io::Error::other(error)),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::other("the pull was cancelled")),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        drop(self.current.split_to(amount));
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// Hashes and counts what passes; at the end of the stream all must be right.
struct Verified<R> {
    inner: R,
    hasher: Sha256,
    /// Bytes at the front of the inner buffer that are hashed already.
    hashed_ahead: usize,
    compressed: Arc<AtomicU64>,
    expected: Option<Descriptor>,
    what: String,
}

impl<R> Verified<R> {
    fn check_end(&self) -> Result<(), ImageError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let actual = self.compressed.load(Ordering::Relaxed);
        if actual != expected.size() {
            return Err(ImageError::SizeMismatch {
                what: self.what.clone(),
                expected: expected.size(),
                actual,
            });
        }
        let digest = format!("sha256:{}", hex::encode(self.hasher.clone().finalize()));
        if digest != expected.digest().as_ref() {
            return Err(ImageError::DigestMismatch {
                what: self.what.clone(),
                expected: expected.digest().to_string(),
                actual: digest,
            });
        }
        Ok(())
    }
}

impl<R: BufRead> BufRead for Verified<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let buffer = self.inner.fill_buf()?;
        if buffer.len() > self.hashed_ahead {
            let new = &buffer[self.hashed_ahead..];
            self.hasher.update(new);
            self.compressed
                .fetch_add(new.len() as u64, Ordering::Relaxed);
            self.hashed_ahead = buffer.len();
        }
        if self.hashed_ahead == 0 {
            self.check_end().map_err(io::Error::other)?;
            return Ok(&[]);
        }
        // the borrow checker wants the buffer asked for again; it is the same one
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.hashed_ahead -= amount;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = reader.fill_buf()?;
    let count = available.len().min(buffer.len());
    buffer[..count].copy_from_slice(&available[..count]);
    reader.consume(count);
    Ok(count)
}

/// The first bytes, read to find the packing, and then the rest.
type Source<R> = Chain<Cursor<Vec<u8>>, Verified<R>>;

enum Decoder<R: BufRead> {
    Plain(Box<Source<R>>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<Frames<Source<R>>>),
}

/// The unpacked tar stream of a layer.
struct LayerReader<R: BufRead> {
    decoder: Decoder<R>,
    what: String,
}

impl<R: BufRead> LayerReader<R> {
    /// Finds the packing by its magic number, as containers/image does: media types are often wrong.
    fn new(mut verified: Verified<R>, window: LargeWindow) -> io::Result<LayerReader<R>> {
        let what = verified.what.clone();
        let mut magic = Vec::new();
        (&mut verified).take(4).read_to_end(&mut magic)?;
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        let zstd = is_zstd(&magic);
        let source = Cursor::new(magic).chain(verified);
        let decoder = if gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            Decoder::Zstd(Box::new(Frames::new(source, window)?))
        } else {
            Decoder::Plain(Box::new(source))
        };
        Ok(LayerReader { decoder, what })
    }

    fn source(&mut self) -> (&'static str, &mut Source<R>) {
        match &mut self.decoder {
            Decoder::Plain(source) => ("tar", source),
            Decoder::Gzip(decoder) => ("gzip", decoder.get_mut()),
            Decoder::Zstd(decoder) => ("zstd", decoder.get_mut()),
        }
    }

    /// Reads what the decoder left, for the digest counts every byte of the blob.
    fn drain(&mut self) -> io::Result<()> {
        let (_, source) = self.source();
        io::copy(source, &mut io::sink()).map(drop)
    }
}

impl<R: BufRead> Read for LayerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let result = match &mut self.decoder {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        };
        match result {
            Ok(0) => self.drain().map(|()| 0),
            Ok(count) => Ok(count),
            Err(error)
                if error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<ImageError>()) =>
            {
                Err(error)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                // a stream that cannot be inflated is mostly one with a wrong digest: say so then
                self.drain()?;
                let (packing, _) = self.source();
                let reason = format!("broken {packing} stream: {error}");
                Err(io::Error::other(ImageError::malformed(
                    self.what.as_str(),
                    reason,
                )))
            }
        }
    }
}

/// Counts what is unpacked for those who watch.
struct Watched<R> {
    inner: R,
    progress: Option<Arc<LayerProgress>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(progress) = &self.progress {
            progress.unpacked(count);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio_util::sync::CancellationToken;

    use super::super::zstd_frames::Windows;
    use super::*;

    fn blob(bytes: &[u8]) -> Descriptor {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let json = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": bytes.len(),
        });
        serde_json::from_value(json).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Reads `packed`, which comes in pieces of `step` bytes, as a blob described by `expected`.
    fn read(packed: &[u8], step: usize, expected: Descriptor) -> Result<Vec<u8>, ImageError> {
        let verified = Verified {
            inner: io::BufReader::with_capacity(step, packed),
            hasher: Sha256::new(),
            hashed_ahead: 0,
            compressed: Arc::default(),
            expected: Some(expected),
            what: "layer x".into(),
        };
        let mut content = Vec::new();
        let window = Windows::default().of_layer(CancellationToken::new());
        LayerReader::new(verified, window)
            .and_then(|mut reader| reader.read_to_end(&mut content))
            .map_err(|error| from_read(&error, "layer x"))?;
        Ok(content)
    }

    #[test]
    fn every_packing_is_read_whatever_the_pieces() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut members = gzip(&content[..1000]);
        members.extend(gzip(&content[1000..]));
        let zstd = zstd::stream::encode_all(&content[..], 1).unwrap();
        let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        skippable.extend(&zstd);
        for packed in [content.clone(), gzip(&content), members, zstd, skippable] {
            for step in [1, 3, 4096, 1 << 20] {
                assert_eq!(
                    read(&packed, step, blob(&packed)).unwrap(),
                    content,
                    "step {step}"
                );
            }
        }
        assert!(read(&[], 10, blob(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_stream_does_not_end_before_it_is_verified() {
        let content = b"some layer".repeat(1000);
        let packed = gzip(&content);
        let mut flipped = packed.clone();
        flipped[30] ^= 0xff;
        let mut longer = packed.clone();
        longer.extend(gzip(b"more"));
        let digest = |error| matches!(error, ImageError::DigestMismatch { .. });
        let size = |error| matches!(error, ImageError::SizeMismatch { .. });
        assert!(digest(read(&flipped, 64, blob(&packed)).unwrap_err()));
        assert!(digest(
            read(&content, 64, blob(&vec![0; content.len()])).unwrap_err()
        ));
        assert!(size(read(&longer, 64, blob(&packed)).unwrap_err()));
        assert!(size(
            read(&packed[..packed.len() - 1], 64, blob(&packed)).unwrap_err()
        ));
    }

    #[test]
    fn a_broken_stream_with_the_right_digest_is_named() {
        for (packed, name) in [
            (&[0x1f, 0x8b, 9, 9, 9][..], "gzip"),
            (&[0x28, 0xb5, 0x2f, 0xfd, 0xff], "zstd"),
        ] {
            let error = read(packed, 64, blob(packed)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("layer x: broken {name} stream")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cancelled_download_is_no_end() {
        let (sender, receiver) = mpsc::channel(1);
        sender
            .try_send(Piece::Data(Bytes::from_static(b"abc")))
            .unwrap();
        drop(sender);
        let mut content = Vec::new();
        let error = Pieces::new(receiver).read_to_end(&mut content).unwrap_err();
        assert_eq!(
            (content.as_slice(), error.to_string().as_str()),
            (&b"abc"[..], "the pull was cancelled")
        );
    }
}
