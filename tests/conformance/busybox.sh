#!/bin/sh
# busybox.sh: sees to a busybox whose shell takes programs from $PATH, which one spec of critest
# needs. Debian's busybox-static runs its own applets instead and excludes the package busybox, so
# that is unpacked into target/conformance, not installed.
set -eu
cd "$(dirname "$0")/../.."
plain() {
    [ -x "$1" ] && ! env PATH=/nonexistent "$1" sh -c 'ls /' >/dev/null 2>&1
}
unpacked=target/conformance/busybox
for busybox in "$(command -v busybox || :)" $unpacked/bin/busybox $unpacked/usr/bin/busybox; do
    if plain "$busybox"; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
    echo "conformance: busybox here runs its own applets, not those in \$PATH: install one that is" \
        "built without FEATURE_SH_STANDALONE" >&2
    exit 1
fi
echo "conformance: fetching Debian's package busybox"
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
# Without this apt complains that its user _apt cannot write there.
chmod 755 "$fetched"
(cd "$fetched" && { apt-get download -qq busybox 2>/dev/null || {
    apt-get update -qq && apt-get download -qq busybox
}; }) </dev/null
mkdir -p "$unpacked"
dpkg -x "$fetched"/busybox_*.deb "$unpacked"
