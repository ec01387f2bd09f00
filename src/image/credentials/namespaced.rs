//! Auth files for one pull of one namespace, in crio.conf's `namespaced_auth_dir`.
//!
//! CRI-O's credential provider for the kubelet (crio-credential-provider) writes one right before
//! the kubelet asks for the pull: `<namespace>-<SHA-256 of the repository's name>.json`. It holds a
//! namespace's secrets, so the pull that takes it removes it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::files::{AuthFile, Document};
use crate::image::error::ImageError;
use crate::image::reference::Name;

/// Tells apart the files that this process has taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Reads the file for a pull of `reference` by `namespace`, and leaves it there. Blocking.
pub(super) fn look(
    dir: &Path,
    namespace: &str,
    reference: &str,
) -> Result<Option<(PathBuf, Document)>, ImageError> {
    let Some(path) = left(dir, namespace, reference)? else {
        return Ok(None);
    };
    let read = AuthFile::new(path.clone()).read()?;
    Ok(read.map(|document| (path, document)))
}

/// Takes the file for a pull of `reference` by `namespace`: its path, and what it said. Blocking.
pub(super) fn take(
    dir: &Path,
    namespace: &str,
    reference: &str,
) -> Result<Option<(PathBuf, Document)>, ImageError> {
    let Some(path) = left(dir, namespace, reference)? else {
        return Ok(None);
    };
    let failed = |step: &str, error: std::io::Error| ImageError::Config {
        path: path.clone(),
        reason: format!("{step}: {error}"),
    };
    // moved first: of two pulls one gets it, and what is written meanwhile is not removed unread
    let used = dir.join("in-use");
    match rustix::fs::mkdir(&used, rustix::fs::Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed("cannot make the directory in-use", error.into())),
    }
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let mine = used.join(format!("{namespace}-{}-{number}.json", std::process::id()));
    match std::fs::rename(&path, &mine) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("cannot be taken for this pull", error)),
    }
    let read = AuthFile::new(mine.clone()).read();
    std::fs::remove_file(&mine).map_err(|error| failed("cannot be removed after use", error))?;
    tracing::info!(file = %path.display(), "credentials of the namespace are used for this pull");
    Ok(read?.map(|document| (path, document)))
}

/// Where the file is, if there is one.
fn left(dir: &Path, namespace: &str, reference: &str) -> Result<Option<PathBuf>, ImageError> {
    // a namespace is a DNS label; what is none has no file
    if namespace.is_empty() || namespace.contains(['/', '\0']) {
        return Ok(None);
    }
    let path = dir.join(format!("{namespace}-{}.json", hash(reference)?));
    Ok(path.exists().then_some(path))
}

/// The name that the kubelet has for the image: in full, without tag and digest, and a short name
/// as docker.io's, whatever registries.conf makes of it.
fn hash(reference: &str) -> Result<String, ImageError> {
    let name = match Name::parse(reference)? {
        Name::Full(full) => full.name(),
        Name::Short(short) => short.at("docker.io")?.name(),
    };
    Ok(hex::encode(Sha256::digest(name)))
}
