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
    contrib/deps/arm64.sh aarch64-unknown-linux-gnu aarch64-unknown-linux-musl
fi
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
if command -v apt-get >/dev/null; then manager=apt; else manager=pacman; fi
# shellcheck disable=SC2086 # one word a package
exec contrib/deps/install.sh "$manager" $missing
