#!/bin/sh
# go-tool.sh [--build] NAME PACKAGE VERSION [BUILD-FLAG...]: sees to a program that is a Go module:
# the one in $PATH (not with --build: that one will not do), else built into target/tools with
# these flags, with cgo where $GO_TOOL_CGO says 1, as the program of a package's tests where
# $GO_TOOL_TEST says 1. `go install MODULE@VERSION` needs the list of versions, which not every
# proxy serves; a go.mod of our own does not. NAME.made beside the program says how it was built:
# another version or other flags build it anew.
set -eu
cd "$(dirname "$0")/../.."
build_anyway=""
if [ "$1" = --build ]; then
    build_anyway=yes
    shift
fi
name=$1 package=$2 version=$3
shift 3
tools=$PWD/target/tools
made="$package $version $*"
if [ -x "$tools/$name" ] && [ "$(cat "$tools/$name.made" 2>/dev/null)" = "$made" ]; then exit 0; fi
if [ -z "$build_anyway" ] && command -v "$name" >/dev/null; then exit 0; fi

go=$(contrib/deps/go.sh)
echo "deps: building $name $version (about a minute)"
mkdir -p "$tools"
build=$(mktemp -d)
trap 'chmod -R u+w "$build"; rm -rf "$build"' EXIT
cd "$build"
export GOFLAGS=-mod=mod CGO_ENABLED="${GO_TOOL_CGO:-0}" GOTOOLCHAIN=auto
"$go" mod init tool.build >/dev/null 2>&1
if [ "${GO_TOOL_TEST:-0}" = 1 ]; then
    with="-t" verb="test -c"
else
    with="" verb=build
fi
# shellcheck disable=SC2086 # none, one or two words
"$go" get $with "$package@$version" 2>go.log || { cat go.log >&2; exit 1; }
# shellcheck disable=SC2086
"$go" $verb "$@" -o "$tools/$name" "$package"
echo "$made" >"$tools/$name.made"
