#!/bin/sh
# The whole test run: lint, build, every test, and nothing left behind on the machine.
# CRICKET_TEST_RUNTIME=FILE takes another runc.
set -eu
cd "$(dirname "$0")/.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
# Each integration test has a daemon of its own; more at a time than this gains nothing.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-4}"

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
# a build without OpenPGP is somebody's; only checked, its one difference is src/image/trust/openpgp_absent.rs
cargo check --locked --no-default-features
contrib/deps/deny.sh present
contrib/deps/fresh.sh
# The tests run the daemon beside its monitor and pause: all three must be built.
cargo build --workspace --locked
tests/arch/foreign.sh aarch64-unknown-linux-gnu dev
before=$(mktemp)
trap 'rm -f "$before"' EXIT
target/debug/leaks save "$before"
status=0
cargo test --workspace --locked --no-fail-fast || status=$?
target/debug/leaks check "$before" || status=$?
exit "$status"
