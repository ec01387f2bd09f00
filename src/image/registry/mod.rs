//! The registry client: the distribution specification's read side, for hostile registries.
//!
//! One [`Session`] is one repository at one endpoint for the length of one pull. It knows schemes,
//! credentials, tokens, redirects, deadlines and bounds; it does not know platforms, layers or disks.
//!
//! Why not the oci-client crate: it reads manifests with an unbounded `bytes()`, follows redirects
//! and challenges by itself, has one TLS configuration for all registries and no deadline between
//! chunks, so that promise 6 of the design (nothing grows without bound) could not be kept through it.
//!
//! What a registry may cost us: [`transport::Timeouts`] for silence, `MAX_*` for sizes,
//! [`MAX_REDIRECTS`] for hops. Credentials go to the registry's own origin and to the token server
//! it names, and nowhere else.

mod blob;
mod body;
mod challenge;
mod session;
mod signatures;
mod token;
mod transport;

pub use blob::Blob;
pub use session::{Session, Target};
pub use transport::{Timeouts, Transport};

/// Hops followed for one request.
const MAX_REDIRECTS: usize = 5;
