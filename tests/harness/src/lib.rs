//! What cricket's tests, demo and benchmarks share: images made in code, registries (a real one
//! and one that misbehaves), the daemon on scratch paths in a network namespace of its own, a CRI
//! client, and the check that nothing is left behind.
//!
//! Everything here fails by panicking with what it knows: a test has no better use for an error.
//! Nothing here knows the daemon's source: it is driven as a kubelet and a person drive it, by its
//! command line, its configuration files and its socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness fails the test, with a message"
)]

pub mod archive;
pub mod certificate;
pub mod cgroups;
pub mod client;
pub mod daemon;
pub mod faults;
pub mod fuse;
pub mod gate;
pub mod gpg;
pub mod hostile;
pub mod http;
pub mod image;
pub mod layer;
pub mod leaks;
pub mod machine;
pub mod meanwhile;
pub mod memory;
pub mod net;
pub mod node;
pub mod raw;
pub mod registry;
pub mod requests;
pub mod samples;
pub mod sigstore;
pub mod spdy;
pub mod sweep;
pub mod tools;
pub mod trust;

pub use client::Client;
pub use cricket_proto::{admin, cri};
pub use image::Image;
pub use node::Node;
