//! TLS for the streaming server, by crio.conf's keys, with files that may change while it runs.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite};

use super::StreamingError;
use crate::sys::{ShuttingDown, blocking};

/// How often the files are looked at, at most; only when a client comes. CRI-O notices a new
/// certificate within five minutes.
const RECHECK: Duration = Duration::from_secs(30);
/// Largest file of certificates or a key: a hundred times a bundle of all public authorities is
/// not it.
const MAX_FILE_BYTES: u64 = 4 << 20;

const CERT: &str = "stream_tls_cert";
const KEY: &str = "stream_tls_key";
const CA: &str = "stream_tls_ca";

/// How the server proves itself, and whether clients must.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// Its certificate chain in PEM (`stream_tls_cert`).
    pub certificate: Option<PathBuf>,
    /// Its key in PEM (`stream_tls_key`).
    pub key: Option<PathBuf>,
    /// Authorities in PEM, one of which must have signed a client's certificate
    /// (`stream_tls_ca`); `None` asks no client for one.
    pub client_authorities: Option<PathBuf>,
    /// TLS 1.3 only, not 1.2 (`tls_min_version`).
    pub only_tls13: bool,
    /// IANA names of the cipher suites for TLS 1.2 (`tls_cipher_suites`); empty: all that are
    /// safe. Those of TLS 1.3 cannot be chosen.
    pub cipher_suites: Vec<String>,
}

/// The current TLS configuration.
#[derive(Debug)]
pub(super) struct Tls {
    settings: Arc<TlsSettings>,
    current: Mutex<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// Which versions of the files it was made from.
    stamps: Vec<Option<Stamp>>,
    checked: Instant,
}

/// What changes about a file with its content.
type Stamp = (u64, u64, u64, i64, i64);

/// No reload, because the daemon ends.
type Reload = Result<Option<(ServerConfig, Vec<Option<Stamp>>)>, ShuttingDown>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the key of crio.conf and the file that cannot be used.
    pub(super) fn load(settings: TlsSettings) -> Result<Self, StreamingError> {
        for suite in unknown_suites(&settings.cipher_suites) {
            tracing::warn!(suite, "cipher suite is not in this program; left out");
        }
        let stamps = settings.stamps();
        let config = Arc::new(settings.config()?);
        Ok(Self {
            settings: Arc::new(settings),
            current: Mutex::new(Current {
                config,
                stamps,
                checked: Instant::now(),
            }),
        })
    }

    /// The configuration for the next client. Files that have changed are read again; when they
    /// cannot be used, what was read before stays.
    pub(super) async fn config(&self, now: Instant) -> Arc<ServerConfig> {
        let current = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_duration_since(current.checked) < RECHECK {
                return Arc::clone(&current.config);
            }
            // Whoever comes meanwhile gets the old one instead of waiting.
            current.checked = now;
            current.clone()
        };
        let settings = Arc::clone(&self.settings);
        let reloaded: Reload = blocking(move || Ok(settings.changed_since(&current.stamps))).await;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some((config, stamps))) = reloaded {
            tracing::info!("certificates of the streaming server read again");
            current.config = Arc::new(config);
            current.stamps = stamps;
        }
        Arc::clone(&current.config)
    }
}

impl TlsSettings {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        let files = [&self.certificate, &self.key, &self.client_authorities];
        let stamp = |file: &PathBuf| Some(stamp(&file.metadata().ok()?));
        files.map(|file| file.as_ref().and_then(stamp)).to_vec()
    }

    /// A new configuration, when the files are others and can be used.
    fn changed_since(
        &self,
        stamps: &[Option<Stamp>],
    ) -> Option<(ServerConfig, Vec<Option<Stamp>>)> {
        // Before the files: what changes while they are read is seen the next time.
        let now = self.stamps();
        if now == stamps {
            return None;
        }
        match self.config() {
            Ok(config) => Some((config, now)),
            Err(error) => {
                tracing::warn!(%error, "changed certificates not taken up; the old ones stay");
                None
            }
        }
    }

    fn config(&self) -> Result<ServerConfig, StreamingError> {
        let provider = Arc::new(self.provider()?);
        let versions: &[_] = if self.only_tls13 {
            &[&TLS13]
        } else {
            &[&TLS13, &TLS12]
        };
        let chain = certificates(CERT, required(CERT, "certificate", &self.certificate)?)?;
        let key_file = required(KEY, "key", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&read(KEY, key_file)?)
            .map_err(|error| bad(KEY, key_file, format!("expected a private key: {error}")))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(CA, file)? {
                    roots
                        .add(authority)
                        .map_err(|error| bad(CA, file, error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| bad(CA, file, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        Ok(builder.with_single_cert(chain, key)?)
    }

    /// The cryptography, less the cipher suites that are not wanted.
    fn provider(&self) -> Result<CryptoProvider, StreamingError> {
        let mut provider = ring::default_provider();
        if self.cipher_suites.is_empty() || self.only_tls13 {
            return Ok(provider);
        }
        let wanted = |suite: &SupportedCipherSuite| {
            !is_tls12(suite) || self.cipher_suites.contains(&name(suite))
        };
        provider.cipher_suites.retain(wanted);
        if !provider.cipher_suites.iter().any(is_tls12) {
            return Err(StreamingError::NoCipherSuite {
                known: known_suites(),
            });
        }
        Ok(provider)
    }
}

fn is_tls12(suite: &SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_2
}

/// The IANA name of a cipher suite.
fn name(suite: &SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().to_owned()
}

fn known_suites() -> Vec<String> {
    ring::ALL_CIPHER_SUITES
        .iter()
        .filter(|suite| is_tls12(suite))
        .map(name)
        .collect()
}

fn unknown_suites(names: &[String]) -> impl Iterator<Item = &String> {
    let known = known_suites();
    names.iter().filter(move |name| !known.contains(name))
}

fn required<'a>(
    key: &'static str,
    what: &'static str,
    file: &'a Option<PathBuf>,
) -> Result<&'a Path, StreamingError> {
    file.as_deref().ok_or(StreamingError::NoFile { key, what })
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, StreamingError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(key, file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(key, file, format!("expected certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(bad(
            key,
            file,
            "there is no certificate in PEM in it".to_owned(),
        ));
    }
    Ok(found)
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, StreamingError> {
    let read = || {
        let mut content = Vec::new();
        File::open(file)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut content)?;
        io::Result::Ok(content)
    };
    let content = read().map_err(|error| bad(key, file, error.to_string()))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(bad(
            key,
            file,
            format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20),
        ));
    }
    Ok(content)
}

fn bad(key: &'static str, path: &Path, reason: String) -> StreamingError {
    StreamingError::File {
        key,
        path: path.to_owned(),
        reason,
    }
}

fn stamp(file: &Metadata) -> Stamp {
    (
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
    )
}
