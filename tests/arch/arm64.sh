#!/bin/sh
# arm64.sh: cross-builds for aarch64, for the GNU and the static target, runs the command line under
# qemu-user and makes the Arch package. PROFILE=dev builds without optimizing, in a quarter of the
# time, and then without a package. The GNU target alone is a part of `make test`.
set -eu
cd "$(dirname "$0")/../.."
profile=${PROFILE:-release}
export CARGO_TARGET_DIR="$PWD/target/arch"
for target in aarch64-unknown-linux-gnu aarch64-unknown-linux-musl; do
    tests/arch/foreign.sh "$target" "$profile"
done
if [ "$profile" = release ]; then tests/arch/run.sh aarch64; fi
