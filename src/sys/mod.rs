//! The only place of the daemon with unsafe code: system calls that no crate wraps.
