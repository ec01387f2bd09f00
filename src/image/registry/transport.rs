//! HTTP clients and their deadlines.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::image::error::ImageError;

/// How long silence is borne.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// TCP and TLS, together.
    pub connect: Duration,
    /// From the request to the answer's headers.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// A whole small document (manifest, configuration, token), so that a trickle ends too.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(15),
            first_byte: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            document: Duration::from_secs(120),
        }
    }
}

/// Makes HTTP clients and shares them among the pulls of the moment.
///
/// Between pulls there is none: the certificates and connection pools of an idle daemon are memory
/// for nothing.
#[derive(Debug)]
pub struct Transport {
    timeouts: Timeouts,
    checking: Mutex<Weak<reqwest::Client>>,
    trusting: Mutex<Weak<reqwest::Client>>,
}

impl Transport {
    /// A transport without any client yet.
    pub fn new(timeouts: Timeouts) -> Transport {
        Transport {
            timeouts,
            checking: Mutex::default(),
            trusting: Mutex::default(),
        }
    }

    /// The deadlines that its sessions keep.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The client for endpoints that are `insecure` (any certificate will do) or not. The first
    /// one reads the system's certificates: blocking, some milliseconds.
    pub(super) fn client(&self, insecure: bool) -> Result<Arc<reqwest::Client>, ImageError> {
        let slot = if insecure {
            &self.trusting
        } else {
            &self.checking
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = slot.upgrade() {
            return Ok(client);
        }
        let client = Arc::new(build(insecure, self.timeouts)?);
        *slot = Arc::downgrade(&client);
        Ok(client)
    }
}

fn build(insecure: bool, timeouts: Timeouts) -> Result<reqwest::Client, ImageError> {
    // the one provider of the process; an error says that it is installed already
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("cricket/", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(insecure)
        // redirects are followed by hand, see session.rs: nobody else decides where credentials go
        .redirect(reqwest::redirect::Policy::none())
        // one connection a layer: parallel layers do not share a congestion window, and a layer
        // that is unpacked slowly does not hold up the others as HTTP/2 flow control would
        .http1_only()
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| ImageError::Tls {
            reason: chain(&error),
        })
}

/// An error with its causes: reqwest prints only the outermost, which says nothing.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = inner.source();
    }
    text
}
