//! What hurts the users of other runtimes most often, tried on this one. docs/pains.md names the
//! pains and the tests that stand for each; the last module holds that page to its word.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod ends;
mod log_bytes;
mod memory;
mod no_memory_cgroup;
mod probes;
mod processes;
mod quiet;
mod reboot;
mod runtime_calls;
mod scarce;
mod sessions;
mod the_page;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
