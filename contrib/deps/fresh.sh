#!/bin/sh
# Would a fresh Debian get what building and tests need? Has apt plan the packages of system.sh as
# if nothing were installed, and looks for what a machine of a developer has anyway.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v apt-get >/dev/null || ! apt-cache show gcc >/dev/null 2>&1; then
    echo "deps: SKIPPED: no apt-get with lists of packages here to plan a fresh system with"
    exit 0
fi
nothing=$(mktemp)
trap 'rm -f "$nothing"' EXIT
# shellcheck disable=SC2046 # one word a package
plan=$(apt-get -o Dir::State::status="$nothing" -s install --no-install-recommends \
    $(contrib/deps/system.sh list))
status=0
for package in gcc binutils libc6-dev linux-libc-dev make runc busybox-static; do
    if ! printf '%s\n' "$plan" | grep -q "^Inst $package "; then
        echo "deps: a fresh Debian would not get $package: system.sh must name it" >&2
        status=1
    fi
done
exit $status
