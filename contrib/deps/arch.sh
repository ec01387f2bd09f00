#!/bin/sh
# arch.sh [aarch64]: sees to makepkg and pacman, and to what cross-builds for aarch64.
set -eu
cd "$(dirname "$0")/../.."
missing=""
# need COMMAND DEBIAN-PACKAGE ARCH-PACKAGE
need() {
    command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null; then missing="$missing $2"; else missing="$missing $3"; fi
}
need makepkg makepkg pacman
need pacman pacman-package-manager pacman
need bsdtar libarchive-tools libarchive
need fakeroot fakeroot fakeroot
need zstd zstd zstd
need readelf binutils binutils
need cmp diffutils diffutils
if [ "${1:-}" = aarch64 ]; then
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
    [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] || missing="$missing libc6-dev-arm64-cross"
    need qemu-aarch64-static qemu-user-static qemu-user-static
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    rustup target add aarch64-unknown-linux-gnu aarch64-unknown-linux-musl 2>/dev/null ||
        echo "deps: no rustup: its targets aarch64-unknown-linux-gnu and -musl must be here" >&2
fi
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
if command -v apt-get >/dev/null; then manager=apt; else manager=pacman; fi
# shellcheck disable=SC2086 # one word a package
exec contrib/deps/install.sh "$manager" $missing
