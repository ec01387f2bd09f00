//! What can go wrong in storage, with the facts a user or the image room needs to act on it.

use std::io;
use std::path::PathBuf;

use super::Space;
use crate::sys::want::is_want;

/// An error of the storage room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A file operation of the store itself went wrong.
    #[error("{}: {step}: {source}", path.display())]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process holds the store.
    #[error(
        "{}: another cricket daemon uses this store; stop it, or give this one another `root`",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Somebody uses the image, so it is not removed.
    #[error("image {id}: in use by {user}")]
    ImageInUse {
        /// The image.
        id: String,
        /// Who uses it.
        user: String,
    },
    /// Not an id of ours: 64 lower-case hex digits, or for a container a plain file name.
    #[error("`{id}` is not a valid {kind} id")]
    InvalidId {
        /// "image", "layer" or "container".
        kind: &'static str,
        /// What was given.
        id: String,
    },
    /// Layers are named by sha256 only.
    #[error("digest {digest}: only sha256 names a layer or an image here")]
    DigestAlgorithm {
        /// The digest.
        digest: String,
    },
    /// The stream that the layer is read from ended with an error (network, inflate).
    #[error("layer {diff_id}: read: {source}")]
    LayerRead {
        /// The layer.
        diff_id: String,
        /// The reader's error, unchanged: the caller may downcast what it wrapped.
        source: io::Error,
    },
    /// The stream is not a tar archive as it should be.
    #[error("layer {diff_id}: broken tar archive at byte {offset}, last entry `{entry}`: {reason}")]
    LayerFormat {
        /// The layer.
        diff_id: String,
        /// Where in the uncompressed stream.
        offset: u64,
        /// The last entry that was understood; empty if none was.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// An entry asks for something that no layer may do.
    #[error("layer {diff_id}: entry `{entry}` refused: {reason}")]
    EntryRefused {
        /// The layer.
        diff_id: String,
        /// The entry's name as the archive has it, escaped and shortened.
        entry: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The kernel refused to make an entry.
    #[error("layer {diff_id}: entry `{entry}`: {step}: {source}")]
    Entry {
        /// The layer.
        diff_id: String,
        /// The entry's name.
        entry: String,
        /// The system call, in words.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The layer is bigger than it may be.
    #[error("layer {diff_id}: entry `{entry}`: over the limit of {limit} {what}")]
    LayerLimit {
        /// The layer.
        diff_id: String,
        /// The entry at which the limit was met.
        entry: String,
        /// The limit's unit and name.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Unpacking would fill the file system.
    #[error(
        "layer {diff_id}: {space}, and the layer needs {coming} more bytes at least; remove images \
         or enlarge the file system"
    )]
    DiskFull {
        /// The layer.
        diff_id: String,
        /// Bytes that are known to come next.
        coming: u64,
        /// What there is.
        space: Space,
    },
    /// A file of this size would fill the file system.
    #[error(
        "{}: {bytes} bytes are needed, {free} are left, {reserve} are kept free; \
         remove images or enlarge the file system",
        path.display()
    )]
    NoRoom {
        /// The store's directory.
        path: PathBuf,
        /// Bytes wanted.
        bytes: u64,
        /// Bytes available.
        free: u64,
        /// Bytes to be kept.
        reserve: u64,
    },
    /// What was unpacked is not what the image's config promises.
    #[error(
        "layer {expected}: the content's digest is sha256:{found}: the image is corrupt, or was tampered with"
    )]
    DiffIdMismatch {
        /// The diff id of the config.
        expected: String,
        /// The digest of the bytes read, hex.
        found: String,
    },
    /// The tar of a layer cannot be made again.
    #[error(
        "layer {diff_id}: what its tar held beside files was not kept: an earlier version unpacked it, or \
         the tar has too much of it; to have it kept remove the image and pull it again"
    )]
    NoLayerTar {
        /// The layer.
        diff_id: String,
    },
    /// A file of a layer is not as it was unpacked.
    #[error(
        "layer {diff_id}: {}: {reason}; remove the image and pull it again", path.display()
    )]
    LayerChanged {
        /// The layer.
        diff_id: String,
        /// The file.
        path: PathBuf,
        /// What is different.
        reason: String,
    },
    /// A layer that is needed is not there.
    #[error("layer {diff_id}: not in the store, but {wanted_by} needs it; pull the image again")]
    LayerMissing {
        /// The layer.
        diff_id: String,
        /// The image or container.
        wanted_by: String,
    },
    /// An image's config or manifest cannot be used.
    #[error("image {id}: {document}: {reason}")]
    Document {
        /// The image's id.
        id: String,
        /// "config" or "manifest".
        document: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// No such image.
    #[error("image {id}: not in the store")]
    UnknownImage {
        /// The id that was asked for.
        id: String,
    },
    /// A record has content that this build does not understand.
    #[error("{}: {reason}", path.display())]
    Record {
        /// The record's file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// Whoever asked for an examination does not want it any more.
    #[error("the check was ended before it was complete")]
    Ended,
    /// The root of a container with a user namespace cannot get to its own files.
    #[error(
        "{}: only root may pass this directory, and the root of a pod with a user namespace has to; \
         allow it (chmod o+x)", path.display()
    )]
    Unreachable {
        /// The directory above the root filesystem.
        path: PathBuf,
    },
    /// Mounting, unmounting or making a container's root went wrong.
    #[error("container {container}: root filesystem: {step}: {source}")]
    Root {
        /// The container's id.
        container: String,
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl StorageError {
    /// For `map_err`: an [`StorageError::Io`] that names path and step.
    pub(super) fn io<E: Into<io::Error>>(
        path: impl Into<PathBuf>,
        step: &'static str,
    ) -> impl FnOnce(E) -> StorageError {
        let path = path.into();
        move |source| StorageError::Io {
            path,
            step,
            source: source.into(),
        }
    }

    /// Whether nothing was learnt, for want of descriptors or memory.
    pub(super) fn is_want(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if is_want(source))
    }
}
