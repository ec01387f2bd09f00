#!/bin/sh
# arm64.sh: cross-builds cricket and what runs inside for aarch64, and runs the short form in an
# arm64 Debian under qemu-system-aarch64. As root.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
target=aarch64-unknown-linux-gnu
contrib/deps/node.sh
contrib/deps/arm64.sh "$target"
if [ "$(uname -m)" != aarch64 ]; then
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    strip=aarch64-linux-gnu-strip
fi
profile=${PROFILE:-release}
case $profile in
release) flag=--release ;;
*) flag="" ;;
esac
# shellcheck disable=SC2086 # none or one word
cargo build $flag --locked --target "$target" -p cricket -p conmon -p pause -p cricket-node
cargo build --locked -p cricket-node
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
PROFILE=$target/$profile DESTDIR=$staged/install PREFIX=/usr contrib/install.sh install
target_dir=${CARGO_TARGET_DIR:-target}
install -m755 "$target_dir/$target/$profile/node-guest" "$staged/node-guest"
for program in node-guest install/usr/bin/cricket; do ${strip:-strip} "$staged/$program"; done
"$target_dir/debug/test-node" short --guest arm64 --staged "$staged"
