//! Wire types of the daemon's gRPC services, generated from the `.proto` files beside this crate.
//!
//! Nothing here has behaviour but the codec: `src/cri/` and `src/admin/` of the daemon translate these messages,
//! and the tests and benchmarks use the clients.

mod codec;

pub use codec::{RequestCodec, RequestDecoder};

/// What all messages have in common: above all their length on the wire.
pub use prost::Message;

/// Container Runtime Interface v1: `runtime.v1.RuntimeService` and `runtime.v1.ImageService`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// cricket's own service on the same socket: what the daemon does, and offline images.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod admin {
    tonic::include_proto!("cricket.admin.v1");
}
