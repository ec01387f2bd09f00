#!/bin/sh
# go-tool.sh NAME PACKAGE VERSION: sees to a program that is a Go module: the one in $PATH, else
# built into target/tools. `go install MODULE@VERSION` needs the list of versions, which not every
# proxy serves; a go.mod of our own does not.
set -eu
cd "$(dirname "$0")/../.."
name=$1 package=$2 version=$3
tools=$PWD/target/tools
[ -x "$tools/$name" ] && exit 0
if command -v "$name" >/dev/null; then exit 0; fi

go=$(contrib/deps/go.sh)
echo "deps: building $name $version (about a minute)"
mkdir -p "$tools"
build=$(mktemp -d)
trap 'chmod -R u+w "$build"; rm -rf "$build"' EXIT
cd "$build"
export GOFLAGS=-mod=mod CGO_ENABLED=0 GOTOOLCHAIN=auto
"$go" mod init tool.build >/dev/null 2>&1
"$go" get "$package@$version" 2>go.log || { cat go.log >&2; exit 1; }
"$go" build -o "$tools/$name" "$package"
