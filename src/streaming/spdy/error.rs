//! How a SPDY connection ends before its time.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::frame::FrameError;
use super::headers::HeaderError;

/// How a connection ended before its purpose was served.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Reading or writing failed.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// The client broke the protocol.
    #[error("SPDY: {0}")]
    Frame(#[from] FrameError),
    /// The client sent headers that cannot be read.
    #[error("SPDY: {0}")]
    Headers(#[from] HeaderError),
    /// The client closed the connection in the middle of a frame.
    #[error("the client closed the connection in the middle of a frame")]
    Truncated,
    /// Nothing was sent or received for too long.
    #[error("nothing was sent or received for {} seconds", .0.as_secs())]
    Idle(Duration),
}

impl SessionError {
    /// Whether the client is told, by GOAWAY, that it broke the protocol.
    pub fn is_protocol(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Headers(_))
    }
}
