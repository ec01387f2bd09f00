//! The tables of crio.conf, one file per table of the file format.
//!
//! Order here is the order in which `cricket config` prints. A status of `Accepted` is the one
//! place that says a key has no effect, and why; whoever makes it work changes it there.

mod api;
pub(super) mod handler;
mod image;
mod network;
mod nri;
mod options;
mod root;
mod runtime;
mod telemetry;
mod workload;

pub use api::Api;
pub use handler::Handler;
pub use image::Image;
pub use network::Network;
pub use nri::Nri;
pub use options::Options;
pub use root::Config;
pub use runtime::{CheckpointRestore, Runtime};
pub use telemetry::{Metrics, Stats, Tracing};
pub use workload::Workload;
