//! The monitor as a whole, with the real runc, as root: each test makes a bundle of busybox,
//! plays the daemon, and leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may panic as the test itself"
)]

mod attach;
mod bundle;
mod connection;
mod exec;
mod harness;
mod hostile;
mod life;
mod measure;
mod output;
mod records;
