#!/bin/sh
# What may be in the dependency tree (deny.toml), checked by cargo-deny.
#   deny.sh            builds it into target/tools where it is missing (five minutes)
#   deny.sh present    says so and does nothing where it is missing
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PWD/target/tools/bin:$PATH
if ! command -v cargo-deny >/dev/null; then
    if [ "${1:-}" = present ]; then
        echo "deny: SKIPPED: no cargo-deny here; \`make deny\` builds it"
        exit 0
    fi
    echo "deps: building cargo-deny (about five minutes)"
    cargo install cargo-deny --version 0.20.2 --locked --quiet --root target/tools
fi
# Not `advisories`: that needs the network at every run and fails without a change of ours.
exec cargo deny --all-features --log-level error check licenses bans sources
