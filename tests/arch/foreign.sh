#!/bin/sh
# foreign.sh TARGET PROFILE: cross-builds the programs for an aarch64 TARGET and runs the command
# line under qemu-user. What is built for this machine while building (build scripts, macros) is
# shared with its own builds.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
target=$1
profile=$2
if [ "$(uname -m)" = aarch64 ]; then
    echo "arm64: this is such a machine: its own tests are the test"
    exit 0
fi
contrib/deps/arm64.sh "$target"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# musl's own start files and libc come with the Rust target; GCC only links them.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "arm64: FAILED: $*" >&2; exit 1; }

echo "arm64: building for $target"
build() { cargo build --locked --profile "$profile" --target "$target" "$@"; }
case $target in
*-musl)
    # Rust would link its own start files into programs that bring theirs.
    flags="-C link-self-contained=no"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS=$flags build -p conmon -p pause
    build -p cricket
    ;;
*) build -p cricket -p conmon -p pause ;;
esac
out=$profile
[ "$profile" != dev ] || out=debug
built=${CARGO_TARGET_DIR:-target}/$target/$out
for program in cricket conmon pause; do
    readelf -h "$built/$program" | grep -q 'Machine:.*AArch64' ||
        fail "$program is for another machine"
done
run() {
    program=$1
    shift
    qemu-aarch64-static -L /usr/aarch64-linux-gnu "$built/$program" "$@"
}
run cricket --version | grep -q '^cricket ' || fail "cricket --version"
run cricket config --default | cmp - contrib/crio.conf
run cricket man | cmp - docs/cricket.8
run cricket complete fish | cmp - completions/cricket.fish
mkdir "$scratch/crio.conf.d"
run cricket --config contrib/crio.conf --config-dir "$scratch/crio.conf.d" config >/dev/null ||
    fail "contrib/crio.conf is refused"
printf '[crio.runtime]\nlog_level = "loud"\n' >"$scratch/wrong.conf"
code=0
run cricket --config "$scratch/wrong.conf" config >/dev/null 2>"$scratch/said" || code=$?
if [ "$code" = 0 ] || ! grep -q loud "$scratch/said"; then
    cat "$scratch/said"
    fail "a wrong crio.conf: exit $code"
fi
# It makes its system calls itself, so this shows that those are aarch64's.
run conmon --version | grep -q '^conmon ' || fail "conmon --version"
code=0
run conmon 2>/dev/null || code=$?
[ "$code" = 64 ] || fail "conmon without arguments: exit $code instead of 64"
echo "arm64: $target: the command line runs"
