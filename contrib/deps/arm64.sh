#!/bin/sh
# arm64.sh TARGET...: sees to what cross-builds for these Rust targets of aarch64, and to qemu-user,
# which runs what was built. On an aarch64 machine there is nothing to see to.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
[ "$(uname -m)" != aarch64 ] || exit 0
missing=""
# need COMMAND-OR-FILE DEBIAN-PACKAGE ARCH-PACKAGE ("-": another one brings it)
need() {
    case $1 in
    /*) [ -e "$1" ] && return ;;
    *) command -v "$1" >/dev/null && return ;;
    esac
    if command -v apt-get >/dev/null; then package=$2; else package=$3; fi
    [ "$package" = - ] || missing="$missing $package"
}
need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
# Debian's compiler only recommends it.
need /usr/aarch64-linux-gnu/include/stdlib.h libc6-dev-arm64-cross -
need qemu-aarch64-static qemu-user-static qemu-user-static
need readelf binutils binutils
if [ -n "$missing" ]; then
    echo "deps: installing$missing"
    if command -v apt-get >/dev/null; then manager=apt; else manager=pacman; fi
    # shellcheck disable=SC2086 # one word a package
    contrib/deps/install.sh "$manager" $missing
fi
libraries=$(rustc --print sysroot)/lib/rustlib
for target in "$@"; do
    [ ! -d "$libraries/$target/lib" ] || continue
    if ! command -v rustup >/dev/null || ! rustup target add "$target"; then
        echo "deps: Rust's library for $target is missing, and rustup does not bring it" >&2
        exit 1
    fi
done
