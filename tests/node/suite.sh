#!/bin/sh
# suite.sh DISK [NAME...]: a disk for `test-node suite`: this checkout with its debug build and the
# programs of its integration tests (all, or those named), whose paths are compiled into them. The disk
# has a file `suite` with their names, and `place`, where it is to be mounted.
set -eu
cd "$(dirname "$0")/../.."
disk=$1
shift
tree=$(mktemp -d)
told=$(mktemp)
trap 'rm -rf "$tree" "$told"' EXIT
git ls-files -z | tar --null -T - -cf - | tar -C "$tree" -xf -
mkdir -p "$tree/target/debug/deps"
cp -a target/tools "$tree/target/"
for program in target/debug/*; do
    [ ! -f "$program" ] || [ ! -x "$program" ] || strip -o "$tree/$program" "$program"
done
# Into a file: behind a pipe nobody would see that a program does not compile.
cargo test --workspace --locked --no-run --quiet --message-format=json-render-diagnostics >"$told"
# kind, name and file of everything that cargo has built as a test
sed -n \
    's/.*"kind":\["\([a-z-]*\)"\].*"name":"\([a-z_-]*\)","src_path".*"test":true},"features".*"executable":"\([^"]*\)".*/\1 \2 \3/p' \
    "$told" |
    while read -r kind name file; do
        [ "$kind" = test ] || [ "$name" = cricket ] || continue
        [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
        strip -o "$tree/target/debug/deps/$(basename "$file")" "$file"
        echo "$name target/debug/deps/$(basename "$file")"
    done >"$tree/suite"
pwd >"$tree/place"
[ -s "$tree/suite" ] || { echo "suite: no tests of these names: $*" >&2; exit 1; }
truncate -s 6G "$disk"
PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$disk"
