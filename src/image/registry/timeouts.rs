//! How long a registry is waited for.

use std::time::Duration;

/// How long silence is borne, and how soon a request is made again.
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
    /// Before a request is made again that met 500 to 504, doubled each time.
    pub backoff: Duration,
    /// The longest `Retry-After` that is waited for.
    pub retry_after: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(15),
            first_byte: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            document: Duration::from_secs(120),
            backoff: Duration::from_millis(500),
            retry_after: Duration::from_secs(60),
        }
    }
}
