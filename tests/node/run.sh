#!/bin/sh
# run.sh VERB [ARGUMENT...]: builds cricket, what runs in the virtual machine and its image, and
# runs `test-node VERB ARGUMENT...`; `run.sh suite [NAME...]` runs integration tests in it, all or some.
# PROFILE=debug takes a debug build instead of a release. As root.
set -eu
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
PROFILE=${PROFILE:-release}
export PROFILE
contrib/deps/node.sh
case $PROFILE in
release) cargo build --release --workspace --locked ;;
*) cargo build --workspace --locked ;;
esac
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
# As a package would be made.
DESTDIR=$staged/install PREFIX=/usr contrib/install.sh install
[ "${1-}" != conformance ] || contrib/deps/critest.sh
built=${CARGO_TARGET_DIR:-target}/$PROFILE
install -m755 "$built/node-guest" "$staged/node-guest"
for program in node-guest install/usr/bin/cricket; do strip "$staged/$program"; done
case ${1-} in
security | whole)
    # Debian 13's runc has no idmapped mounts.
    contrib/deps/runc.sh
    runc=target/tools/runc
    [ -x $runc ] || runc=$(command -v runc)
    install -m755 "$runc" "$staged/runc"
    ;;
esac
if [ "${1-}" = conformance ]; then
    tests/conformance/busybox.sh
    "$built/conformance" stage "$staged/critest"
    report=target/node-conformance
    rm -rf "$report"
    mkdir -p "$report"
    "$built/test-node" "$@" --staged "$staged" --report "$report"
    # A part of the suite is judged by critest's own summary.
    [ -z "${CRICKET_CONFORMANCE_FOCUS-}" ] || { tail -n 12 "$report/critest.log"; exit; }
    "$built/conformance" judge "$report/report.json" "$report/features.json"
    exit
fi
if [ "${1-}" = suite ]; then
    shift
    # The integration tests' own programs, and the runc that some of them take.
    contrib/deps/runc.sh
    cargo build --workspace --locked
    tests/node/suite.sh "$staged/tests.raw" "$@"
    report=target/node-suite
    rm -rf "$report"
    mkdir -p "$report"
    mkdir "$staged/agent"
    mv "$staged/node-guest" "$staged/agent/"
    "$built/test-node" suite --staged "$staged/agent" --suite "$staged/tests.raw" --report "$report"
    exit
fi
"$built/test-node" "$@" --staged "$staged"
