#!/bin/sh
# cargo-deny, for `make deny`: the one in $PATH, else built into target/tools (five minutes).
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:$HOME/.cargo/bin:$PWD/target/tools/bin
if ! command -v cargo-deny >/dev/null; then
    cargo install cargo-deny --locked --quiet --root target/tools
fi
# Not `advisories`: that needs the network at every run and fails without a change of ours.
exec cargo deny --all-features check licenses bans sources
