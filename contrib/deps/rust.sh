#!/bin/sh
# Sees to a Rust toolchain that is recent enough: what is there, else the distribution's rustup,
# else the official installer. Prints nothing when there is nothing to do.
set -eu
cd "$(dirname "$0")/../.."
wanted=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' Cargo.toml)
# In front: Debian 12 has a rustc 1.63 in /usr/bin.
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

enough() {
    version=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p')
    [ -n "$version" ] && [ "$version" -ge "$wanted" ] && cargo --version >/dev/null 2>&1
}
tools() {
    [ "${1:-run}" = test ] || return 0
    cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 && return 0
    rustup component add clippy rustfmt && return 0
    echo "deps: cargo clippy and cargo fmt are missing: install them with your Rust" >&2
    return 1
}

if ! enough; then
    echo "deps: no Rust of 1.$wanted or later here: installing the current stable one"
    if ! command -v rustup >/dev/null && [ "$(id -u)" = 0 ]; then
        if command -v pacman >/dev/null; then
            # Arch's rust package and rustup exclude each other: rust there is always recent.
            contrib/deps/install.sh pacman rustup || true
        elif apt-cache show rustup >/dev/null 2>&1; then
            contrib/deps/install.sh apt rustup || true
        fi
    fi
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile minimal -c clippy -c rustfmt
        rustup default stable
    else
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --no-modify-path --profile minimal -c clippy -c rustfmt
    fi
    enough || { echo "deps: still no Rust of 1.$wanted or later in \$PATH" >&2; exit 1; }
fi
tools "$@"
