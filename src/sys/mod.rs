//! The only place of the daemon with unsafe code: system calls that no crate wraps.

mod blocking;
pub mod clock;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod pidfd;
pub mod process_tree;
pub mod readiness;
pub mod terminal;

pub use blocking::{ShuttingDown, blocking};
