#!/bin/sh
# All of critest against what `cargo build` built; arguments go to target/debug/conformance.
# CRICKET_TEST_RUNTIME=FILE takes another runc, CRICKET_CONFORMANCE_NODES=N as many nodes at a time.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
tests/conformance/busybox.sh
cargo build --workspace --locked
# critest leaves shared memory on its machine, and mounts where a spec fails.
exec unshare --mount --ipc -- target/debug/conformance "$@"
