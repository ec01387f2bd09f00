//! The only place of the daemon with unsafe code: system calls that no crate wraps.
//!
//! So far the crates wrap all that is needed: what is here is safe.

pub mod notify;
pub mod pidfd;
