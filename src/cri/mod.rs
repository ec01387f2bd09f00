//! The Container Runtime Interface on the socket: translates messages to domain calls and back,
//! nothing else.
//!
//! `runtime` and `image` say which function answers which call, the functions stand by subject:
//! `status`, `pods`, `containers`, `exec`, `resources`, `stats` and so on.
//! `request` turns messages into the domain's words, `answer` the domain's words into messages,
//! `filter` says what a list is asked for, `code` which gRPC status an error is. A rule about pods,
//! containers or images that is written here stands in the wrong room.
//!
//! `socket` makes the socket, `door` sorts who speaks gRPC on it from who speaks HTTP/1, which `http`
//! answers.

mod answer;
mod checkpoint;
mod code;
mod containers;
mod door;
mod events;
mod exec;
mod filter;
mod http;
mod image;
mod metrics;
mod parts;
mod pods;
mod request;
mod resources;
mod runtime;
mod shown;
mod socket;
mod stats;
mod status;
mod streams;

use std::sync::Arc;

pub use code::of_image;
pub use door::sort;
pub use http::HttpApi;
pub use metrics::MetricGroups;
pub use shown::{Shown, Texts};
pub use socket::{SocketError, bind, connect};

use crate::image::Images;
use crate::network::Networks;
use crate::runtime::Handlers;
use crate::sandbox::Sandboxes;
use crate::storage::Store;
use crate::streaming::Urls;

/// What the runtime says of itself: `Version` and `Status`.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Version of this program, semver.
    pub version: &'static str,
    /// Whether cgroups are made through systemd.
    pub systemd_cgroup: bool,
    /// Why the node cannot limit memory, if it cannot, with the remedy.
    pub no_memory: Option<String>,
    /// The configuration in effect, for `crictl info`.
    pub shown: Arc<Shown>,
}

/// `runtime.v1.RuntimeService`.
#[derive(Debug, Clone)]
pub struct RuntimeApi {
    /// Pods, and through them containers.
    pub sandboxes: Arc<Sandboxes>,
    /// What is pulled now.
    pub images: Arc<Images>,
    /// Whether pods can have a network.
    pub networks: Arc<Networks>,
    /// The OCI runtimes.
    pub handlers: Arc<Handlers>,
    /// Where clients open streams.
    pub streaming: Arc<Urls>,
    /// What the runtime says of itself.
    pub identity: Identity,
    /// The metrics of pods that are told.
    pub metrics: MetricGroups,
}

/// `runtime.v1.ImageService`.
#[derive(Debug, Clone)]
pub struct ImageApi {
    /// The images.
    pub images: Arc<Images>,
    /// What they and writable layers occupy.
    pub store: Store,
    /// Who uses them.
    pub sandboxes: Arc<Sandboxes>,
}
