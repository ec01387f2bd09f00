#!/bin/sh
# foreign.sh TREE COMMAND...: runs a command of an arm64 TREE, as root there, by chroot. The kernel
# learns of qemu-user in a user namespace of its own, so nobody else's programs are run by it.
set -eu
tree=$1
qemu=$(command -v qemu-aarch64-static)
meet=$(mktemp -d)
trap 'rm -rf "$meet"' EXIT
mkfifo "$meet/mapped"
export qemu tree meet

# shellcheck disable=SC2016 # for the shell inside
inside='
set -eu
read -r _ <"$meet/mapped"
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# F: the interpreter is opened now, since the tree has none.
printf "%s" ":qemu-aarch64:M::$magic:$mask:$qemu:F" >/proc/sys/fs/binfmt_misc/register
shift
exec chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"
'
unshare --user --mount --pid --fork --kill-child sh -c "$inside" foreign "$@" &
child=$!
# The ids of all owners are as outside. Root may write that once the namespace is there.
until [ "$(readlink "/proc/$child/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do
    kill -0 "$child" 2>/dev/null || { wait "$child"; exit 1; }
    sleep 0.05
done
echo "0 0 65536" >"/proc/$child/uid_map"
echo "0 0 65536" >"/proc/$child/gid_map"
echo >"$meet/mapped"
wait "$child"
