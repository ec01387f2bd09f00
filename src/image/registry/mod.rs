//! The registry client: the distribution specification's read side, for hostile registries.
//!
//! One [`Session`] is one repository at one endpoint for the length of one pull. It knows schemes,
//! tokens, redirects, retries, deadlines and bounds; [`Transport`] gives it HTTP clients, one for each
//! set of certificates (`certificates`, `tls`), through the environment's proxies (`proxy`). Who we
//! are is handed in (`image/credentials/`); platforms, layers and disks are not known here.
//!
//! Why not the oci-client crate: it reads manifests with an unbounded `bytes()`, follows redirects
//! and challenges by itself, has one TLS configuration for all registries and no deadline between
//! chunks, so that promise 6 of the design (nothing grows without bound) could not be kept through it.
//!
//! What a registry may cost us: [`timeouts::Timeouts`] for silence, `MAX_*` for sizes,
//! `connection` for hops, `retry` for waiting. Credentials go to the registry's own origin and to the token server
//! it names, and nowhere else.

mod authorization;
mod blob;
mod body;
mod certificates;
mod challenge;
mod cidr;
mod connection;
mod greeting;
mod insecure;
mod permit;
mod proxy;
mod retry;
mod session;
mod signatures;
mod timeouts;
mod tls;
mod token;
mod tokens;
mod transport;

pub use blob::Blob;
pub use certificates::check as check_certificates;
pub use insecure::InsecureHosts;
pub use permit::{Permit, Places};
pub use proxy::Proxies;
pub use session::{Session, Target};
#[cfg(test)]
pub use timeouts::Timeouts;
pub use transport::{Network, Transport};
