//! Certificates of one host: `certs.d/<host[:port]>/` (containers-certs.d(5)).
//!
//! `*.crt` are authorities that are trusted for this host beside the system's, `NAME.cert` with
//! `NAME.key` prove to it who we are. The directories are read anew for each pull, so that a changed
//! file counts from the next one on. The first directory that exists is the one that counts, as in
//! containers/image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use crate::image::error::ImageError;
use crate::image::registries::read_bounded;

/// Files of one directory that are looked at; there are two or three.
const MAX_FILES: usize = 256;

/// Hosts of one certs.d directory that are checked.
const MAX_HOSTS: usize = 4096;

const EMPTY: &str = "has no certificate in PEM and is ignored";

/// What a host's directory has; empty where there is none.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    /// Trusted beside the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// To prove who we are, in the order of their file names.
    pub identities: Vec<Arc<CertifiedKey>>,
    /// What was read: the same files with the same content have the same digest.
    pub digest: [u8; 32],
    /// The directory, for errors.
    pub directory: Option<PathBuf>,
    /// Files of authorities in which there is none.
    empty: Vec<PathBuf>,
}

/// What is wrong in certs.d directories, each in one line with its file: for `cricket config --check`.
/// Blocking.
pub fn check(bases: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for base in bases {
        let entries = match std::fs::read_dir(base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                found.push(broken(base, error.to_string()).to_string());
                continue;
            }
        };
        let names = entries.take(MAX_HOSTS).filter_map(Result::ok);
        let mut hosts: Vec<_> = names
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        hosts.sort();
        for host in hosts {
            match Certificates::read(std::slice::from_ref(base), &host) {
                Ok(read) => {
                    let empty = read.empty.iter();
                    found.extend(empty.map(|path| format!("{}: {EMPTY}", path.display())));
                }
                Err(error) => found.push(error.to_string()),
            }
        }
    }
    found
}

impl Certificates {
    /// Reads the first of `<base>/<host>` that exists. Blocking, but small and local.
    pub fn read(bases: &[PathBuf], host: &str) -> Result<Certificates, ImageError> {
        // a host that a redirect names may be anything: it must not lead out of the directory
        if host.is_empty() || host.contains('/') || host.starts_with('.') {
            return Ok(Certificates::default());
        }
        for base in bases {
            let directory = base.join(host);
            match std::fs::read_dir(&directory) {
                Ok(entries) => return read_directory(directory, entries),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(broken(&directory, error.to_string())),
            }
        }
        Ok(Certificates::default())
    }

    /// These for a host that the registry of `from` has named: whom we trust there counts here as
    /// well, for a private registry and its blob store often share an authority. Who we are there
    /// is shown only to a `trusted` host: it is a credential, and credentials do not follow.
    pub fn beside(mut self, from: &Certificates, trusted: bool) -> Certificates {
        let identities = from.identities.iter().filter(|_| trusted);
        let before = (self.authorities.len(), self.identities.len());
        self.authorities.extend(from.authorities.iter().cloned());
        self.identities.extend(identities.cloned());
        if before != (self.authorities.len(), self.identities.len()) {
            let digest = Sha256::new()
                .chain_update(self.digest)
                .chain_update(from.digest)
                .chain_update([u8::from(trusted)]);
            self.digest = digest.finalize().into();
        }
        self
    }

    /// Whether this host has none of its own.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.identities.is_empty()
    }
}

fn read_directory(
    directory: PathBuf,
    entries: std::fs::ReadDir,
) -> Result<Certificates, ImageError> {
    let mut names = Vec::new();
    for entry in entries.take(MAX_FILES) {
        let entry = entry.map_err(|error| broken(&directory, error.to_string()))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    let has = |name: &str| names.iter().any(|other| other == name);
    let mut found = Certificates::default();
    let mut digest = Sha256::new();
    for name in &names {
        let path = directory.join(name);
        if name.ends_with(".crt") {
            // removed since it was listed: as if it had never been there
            let Some(text) = read_bounded(&path)? else {
                continue;
            };
            hash(&mut digest, name, &text);
            let authorities = authorities(&path, &text)?;
            if authorities.is_empty() {
                // containers/image passes over it in silence; the pull may work without it
                tracing::warn!(file = %path.display(), "{EMPTY}");
                found.empty.push(path);
            }
            found.authorities.extend(authorities);
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            if !has(&key) {
                let reason = format!(
                    "the client certificate has no key {key} beside it (authorities are *.crt)"
                );
                return Err(broken(&path, reason));
            }
            let (chain, key) = (needed(&path)?, needed(&directory.join(&key))?);
            hash(&mut digest, name, &chain);
            hash(&mut digest, "key", &key);
            found
                .identities
                .push(Arc::new(identity(&path, &chain, &key)?));
        } else if let Some(stem) = name.strip_suffix(".key") {
            let cert = format!("{stem}.cert");
            if !has(&cert) {
                let reason = format!("the key has no client certificate {cert} beside it");
                return Err(broken(&path, reason));
            }
        }
    }
    if !found.is_empty() {
        found.digest = digest.finalize().into();
        found.directory = Some(directory);
    }
    Ok(found)
}

fn authorities(path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, ImageError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    certificates.map_err(|error| broken(path, format!("not PEM: {error}")))
}

fn identity(path: &Path, chain: &str, key: &str) -> Result<CertifiedKey, ImageError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|error| broken(path, format!("not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(broken(path, "has no certificate in PEM".to_owned()));
    }
    let key_path = path.with_extension("key");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| broken(&key_path, format!("no private key in PEM: {error}")))?;
    let key = any_supported_type(&key).map_err(|error| broken(&key_path, error.to_string()))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(identity)
        }
        Err(_) => {
            let reason = format!("is not the certificate of {}", key_path.display());
            Err(broken(path, reason))
        }
    }
}

fn needed(path: &Path) -> Result<String, ImageError> {
    read_bounded(path)?.ok_or_else(|| broken(path, "was removed while it was read".to_owned()))
}

fn hash(digest: &mut Sha256, name: &str, text: &str) {
    for part in [name, text] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
}

/// The path ends in the host's directory, so it names the host as well.
fn broken(path: &Path, reason: String) -> ImageError {
    ImageError::Config {
        path: path.to_owned(),
        reason,
    }
}
