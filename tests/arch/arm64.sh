#!/bin/sh
# arm64.sh: cross-builds for aarch64 and runs the command line under qemu-user. PROFILE=dev builds
# without optimizing, in a quarter of the time, and then without a package.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
contrib/deps/arch.sh aarch64
profile=${PROFILE:-release}
out=$profile
[ "$profile" != dev ] || out=debug
export CARGO_TARGET_DIR="$PWD/target/arch"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# musl's own start files and libc come with the Rust target; GCC only links them.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc

for target in aarch64-unknown-linux-gnu aarch64-unknown-linux-musl; do
    echo "arm64: building for $target"
    cargo build --locked --profile "$profile" --target "$target" -p cricket -p conmon -p pause
    built=$CARGO_TARGET_DIR/$target/$out
    for program in cricket conmon pause; do
        readelf -h "$built/$program" | grep -q 'Machine:.*AArch64' ||
            { echo "arm64: $program is for another machine" >&2; exit 1; }
    done
    run="qemu-aarch64-static -L /usr/aarch64-linux-gnu $built/cricket"
    $run --version | grep '^cricket '
    $run config --default | cmp - contrib/crio.conf
    $run man | cmp - docs/cricket.8
    echo "arm64: $target runs"
done
if [ "$profile" = release ]; then tests/arch/run.sh aarch64; fi
