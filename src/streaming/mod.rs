//! Exec, attach and port-forward: the streams that kubectl's protocols carry.
//!
//! A CRI call leaves its request here and gets a URL with a single-use token; the client then
//! connects to that URL over HTTP and upgrades to SPDY/3.1 or WebSocket. What happens at the other
//! end of the streams, `container/` and `sandbox/` know.

mod error;
mod handshake;
mod inflow;
mod over_spdy;
mod pairs;
mod port_forward;
mod remote_command;
mod request;
mod rooms;
mod server;
mod spdy;
mod tls;
mod tokens;
mod transport;
mod urls;
mod websocket;

#[cfg(test)]
#[path = "far_end_tests.rs"]
mod far_end;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tls_tests;

pub use error::StreamingError;
pub use request::{StreamRequest, WantedStreams};
pub use rooms::Rooms;
pub use server::{Server, Settings};
pub use tls::TlsSettings;
pub use urls::Urls;
