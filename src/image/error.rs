//! What can go wrong with an image, told so that a person at `kubectl describe` can act on it.
//!
//! The type is `Clone` because every caller who joined a pull gets the same error.

use std::path::PathBuf;
use std::sync::Arc;

use crate::storage::{Space, StorageError};
use crate::sys::ShuttingDown;

/// The repository that an exchange with a registry was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Host with an optional port, as contacted (a mirror's, where a mirror was asked).
    pub registry: String,
    /// Path below the registry.
    pub path: String,
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

/// An error of the image room.
///
/// Two messages start with a word that the kubelet looks for (cri-api `pkg/errors`):
/// `RegistryUnavailable` and `SignatureValidationFailed`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// A blocking task was stopped, which happens only while the daemon ends.
    #[error("{0}")]
    ShuttingDown(#[from] ShuttingDown),
    /// The text is not an image reference.
    #[error("image reference {reference:?}: {reason}")]
    Reference {
        /// The text as given.
        reference: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A short name that registries.conf does not resolve, or resolves to too much.
    #[error("image {reference}: {reason}")]
    ShortName {
        /// The short name.
        reference: String,
        /// What is missing, and what to write where.
        reason: String,
    },
    /// A configuration file of this room (registries.conf, policy.json, auth.json).
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A credential helper that failed.
    #[error("credential helper {program} (named in {origin}), asked for {registry}: {reason}")]
    CredentialHelper {
        /// The program.
        program: String,
        /// The file that names it.
        origin: String,
        /// What it was asked for.
        registry: String,
        /// What went wrong, in its own words where it has any.
        reason: String,
    },
    /// registries.conf blocks the registry.
    #[error("image {reference}: the registry is blocked by prefix {prefix:?} in registries.conf")]
    Blocked {
        /// The reference asked for.
        reference: String,
        /// The prefix of the table that says so.
        prefix: String,
    },
    /// policy.json does not exist.
    #[error(
        "SignatureValidationFailed: image trust policy {} does not exist, so no image is trusted; \
         to accept every image write {{\"default\":[{{\"type\":\"insecureAcceptAnything\"}}]}} there",
        path.display()
    )]
    PolicyMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// policy.json does not accept the image.
    #[error("SignatureValidationFailed: image {reference}: {reason}")]
    Rejected {
        /// The reference asked for.
        reference: String,
        /// The requirement, its file and its scope.
        reason: String,
    },
    /// No answer, or an answer that says "later" (429, 5xx).
    #[error("RegistryUnavailable: {repository}: {step}: {cause}")]
    Unavailable {
        /// Whom we asked.
        repository: Repository,
        /// What for.
        step: String,
        /// The network's or the registry's words, and what to check.
        cause: String,
    },
    /// 401 or 403, or no token to be had.
    #[error("{repository}: {step}: access denied: {cause}")]
    Denied {
        /// Whom we asked.
        repository: Repository,
        /// What for.
        step: String,
        /// The registry's words, and which credentials were tried.
        cause: String,
    },
    /// 404: no such repository, tag or blob.
    #[error("{repository}: {step}: not found{detail}")]
    NotFound {
        /// Whom we asked.
        repository: Repository,
        /// What for.
        step: String,
        /// The registry's words, with a leading separator, or nothing.
        detail: String,
    },
    /// An answer outside the distribution specification.
    #[error("{repository}: {step}: {cause}")]
    Protocol {
        /// Whom we asked.
        repository: Repository,
        /// What for.
        step: String,
        /// What came back.
        cause: String,
    },
    /// Content that is not what its digest says.
    #[error("{what}: digest mismatch: expected {expected}, got {actual}; the content was refused")]
    DigestMismatch {
        /// The content and where it came from.
        what: String,
        /// The digest by which it was asked for.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// Content that broke off.
    #[error("{what}: truncated after {actual}{} bytes: {cause}", of(*expected))]
    Truncated {
        /// The content and where it came from.
        what: String,
        /// Bytes that were promised, where they were.
        expected: Option<u64>,
        /// Bytes that came.
        actual: u64,
        /// The connection's words.
        cause: String,
    },
    /// Content of another length than its descriptor says.
    #[error("{what}: size mismatch: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// The content and where it came from.
        what: String,
        /// Bytes the descriptor or the header promised.
        expected: u64,
        /// Bytes that came (for a too long one: at least).
        actual: u64,
    },
    /// A document over its bound.
    #[error("{what}: larger than the limit of {limit} {unit}")]
    TooLarge {
        /// The document and where it came from.
        what: String,
        /// The bound.
        limit: u64,
        /// What the bound counts.
        unit: &'static str,
    },
    /// A document that does not parse or contradicts itself.
    #[error("{what}: {reason}")]
    Malformed {
        /// The document and where it came from.
        what: String,
        /// Where it fails.
        reason: String,
    },
    /// A kind of content that this build does not run.
    #[error("{what}: media type {media_type} is not supported; {remedy}")]
    Unsupported {
        /// The content and where it came from.
        what: String,
        /// Its media type.
        media_type: String,
        /// What is supported instead.
        remedy: &'static str,
    },
    /// An index without an entry for this machine.
    #[error("image {reference}: no image for {wanted}; the index offers {offered}")]
    NoPlatform {
        /// The reference asked for.
        reference: String,
        /// os/arch/variant of this machine.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// Every endpoint of a registry failed; the last one (the registry itself) decides the class.
    #[error("{last}; tried before: {earlier}")]
    Endpoints {
        /// The error of the last endpoint.
        last: Box<ImageError>,
        /// The errors of the mirrors before it.
        earlier: String,
    },
    /// The image is in use and stays.
    #[error("image {id}: in use by {user}; remove that first")]
    InUse {
        /// The image.
        id: String,
        /// Who uses it.
        user: String,
    },
    /// An image archive or layout that cannot be loaded.
    #[error("{}: {reason}", path.display())]
    Archive {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// The layers that are missing do not fit on the disk; nothing of them was fetched.
    #[error(
        "image {reference}: the layers that are not here yet need {needed} bytes at least{}, and \
         {space}; remove images or enlarge the file system",
        beside(*promised)
    )]
    NoSpace {
        /// The reference asked for.
        reference: String,
        /// Bytes that the layers have, unpacked where that is known, else packed.
        needed: u64,
        /// Bytes beside these that the pulls in flight still need.
        promised: u64,
        /// What there is.
        space: Space,
    },
    /// An image that cannot be saved.
    #[error("{image}: {reason}")]
    NotSaved {
        /// The image or layer.
        image: String,
        /// Why not.
        reason: String,
    },
    /// A layer that could not be stored.
    #[error("{what}: {source}")]
    Storage {
        /// The layer or image, and where it came from.
        what: String,
        /// The storage room's error.
        source: Arc<StorageError>,
    },
    /// The TLS library or the system's certificates could not be set up.
    #[error("https client: {reason}")]
    Tls {
        /// The library's words.
        reason: String,
    },
}

impl ImageError {
    /// The error that decides the class: what is below [`ImageError::Endpoints`].
    pub fn root(&self) -> &ImageError {
        match self {
            ImageError::Endpoints { last, .. } => last.root(),
            other => other,
        }
    }

    pub(super) fn malformed(what: impl Into<String>, reason: impl ToString) -> ImageError {
        ImageError::Malformed {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}

fn of(expected: Option<u64>) -> String {
    expected
        .map(|bytes| format!(" of {bytes}"))
        .unwrap_or_default()
}

/// What other pulls need, in words.
fn beside(promised: u64) -> String {
    match promised {
        0 => String::new(),
        more => format!(", and the pulls in flight {more} more"),
    }
}
