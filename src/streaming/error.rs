//! What keeps the streaming server from starting.

use std::io;
use std::path::PathBuf;

/// The streaming server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    /// It cannot listen.
    #[error(
        "listen for streaming sessions on {address} port {port}: {source}; stop what listens there, or set `stream_address` and `stream_port` (\"0\" takes any free port) in crio.conf"
    )]
    Listen {
        /// `stream_address`.
        address: String,
        /// `stream_port`.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// TLS is asked for without what it needs.
    #[error("`stream_enable_tls` needs `{key}` in crio.conf: the PEM file of the server's {what}")]
    NoFile {
        /// The missing key.
        key: &'static str,
        /// What the file holds.
        what: &'static str,
    },
    /// A file with certificates or a key cannot be used.
    #[error("`{key}` of crio.conf, {path}: {reason}", path = path.display())]
    File {
        /// The key of crio.conf.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// None of the cipher suites can be used.
    #[error(
        "`tls_cipher_suites` of crio.conf names none that this program has for TLS 1.2; it has {}",
        known.join(", ")
    )]
    NoCipherSuite {
        /// What it has.
        known: Vec<String>,
    },
    /// Certificate, key and versions do not make a server.
    #[error("TLS of the streaming server: {0}")]
    Tls(#[from] rustls::Error),
}
