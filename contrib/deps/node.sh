#!/bin/sh
# Sees to what makes a virtual machine's image; QEMU comes with the image (tests/node/image).
set -eu
cd "$(dirname "$0")/../.."
missing=""
for pair in debootstrap:debootstrap mke2fs:e2fsprogs setpriv:util-linux strip:binutils; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || missing="$missing debian-archive-keyring"
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
if command -v apt-get >/dev/null; then manager=apt; else manager=pacman; fi
# shellcheck disable=SC2086 # one word a package
exec contrib/deps/install.sh "$manager" $missing
