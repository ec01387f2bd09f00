#!/bin/sh
# Sees to a runc with idmapped mounts, which user namespaces need: 1.2 or later. Debian 12 has 1.1,
# so the one in $PATH is asked for its version; ours stands beside it in target/tools.
set -eu
cd "$(dirname "$0")/../.."
current() {
    version=$(runc --version 2>/dev/null | sed -n 's/^runc version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    # shellcheck disable=SC2086 # two words
    set -- ${version:-0 0}
    [ "$1" -gt 1 ] || { [ "$1" -eq 1 ] && [ "$2" -ge 2 ]; }
}
current && exit 0
GO_TOOL_CGO=1 exec contrib/deps/go-tool.sh \
    --build runc github.com/opencontainers/runc v1.5.1 -tags seccomp
