//! The only place of the daemon with unsafe code: system calls that no crate wraps.

mod blocking;
pub mod boot;
pub mod calls;
pub mod clock;
pub mod fault;
pub mod lock;
pub mod memory;
pub mod mountinfo;
pub mod mounts;
pub mod notify;
pub mod outside;
pub mod passage;
pub mod pidfd;
pub mod process_stat;
pub mod process_tree;
pub mod readiness;
pub mod resolved;
pub mod stamp;
pub mod terminal;
pub mod user_namespace;
pub mod want;

pub use blocking::{ShuttingDown, blocking};
