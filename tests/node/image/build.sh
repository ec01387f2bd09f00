#!/bin/sh
# build.sh CACHE [amd64|arm64]: what the tests in a virtual machine boot, built once and kept in CACHE:
#   emulator/     a tree with Debian trixie's QEMU; run by its own loader, nothing is mounted
#   guest.raw     an ext4 disk with Debian trixie, `packages`, on amd64 `packages-suite`, and the
#                 agent's unit
#   kernel, initrd  of that disk
# For arm64 the same with -arm64 in their names; its packages are configured under qemu-user.
# Debian 12's QEMU 7.2 hangs or corrupts the guest's kernel in half of its boots without KVM.
# Each part is built anew when what it is made of has changed. As root.
set -eu
cd "$(dirname "$0")"
cache=$1
arch=${2:-amd64}
suite=trixie
case $arch in
amd64) of="" packages="packages packages-suite" ;;
arm64) of=-arm64 packages=packages ;;
*) echo "node: no virtual machine of $arch" >&2; exit 2 ;;
esac
case $(uname -m) in aarch64) here=arm64 ;; *) here=amd64 ;; esac
emulator=emulator$of guest=guest$of
# What apt here uses: a machine with a mirror of its own has it in its sources.
mirror=$(sed -n -e 's|^URIs: *\([^ ]*/debian\)/* *$|\1|p' -e 's|^deb .*\(http[^ ]*/debian\)/* .*|\1|p' \
    /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    2>/dev/null | head -n 1)
mirror=${CRICKET_NODE_MIRROR:-${mirror:-http://deb.debian.org/debian}}

say() { echo "node: $*" >&2; }
# second_stage TREE: configures the packages of another machine's tree.
second_stage() {
    mkdir -p "$1/debootstrap/bin"
    cat "$1/debootstrap/required" "$1/debootstrap/base" >"$1/debootstrap/names"
    # The devices are there; what debootstrap tries first no user namespace may do.
    printf '#!/bin/sh\n[ "$1" != -m ] || shift 2\n: >"$1"\n' >"$1/debootstrap/bin/mknod"
    chmod +x "$1/debootstrap/bin/mknod"
    # It reads the list of all packages many times, minutes each under qemu-user: those that it
    # installs are enough.
    for list in "$1"/var/lib/apt/lists/*_Packages; do
        awk 'FNR == NR { for (i = 1; i <= NF; i++) wanted[$i]; next }
            /^Package: / { keep = $2 in wanted } keep' \
            "$1/debootstrap/names" "$list" >"$list.short"
        mv "$list.short" "$list"
    done
    ./foreign.sh "$1" /usr/bin/env PATH=/debootstrap/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /debootstrap/debootstrap --second-stage
}
# bootstrap TREE ARCHITECTURE PACKAGES: the log is shown when it fails.
bootstrap() {
    rm -rf --one-file-system "$1"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keyring" ] || { say "$keyring is missing: install debian-archive-keyring"; exit 1; }
    set -- "$1" "$2" "$(echo "$3" | grep -v '^#' | tr -s ' \n' ',,' | sed 's/,$//')"
    if [ "$2" = "$here" ]; then foreign=""; else foreign=--foreign; fi
    # shellcheck disable=SC2086 # none or one word
    if ! debootstrap --variant=minbase --keyring="$keyring" --cache-dir="$cache/packages" \
        --arch="$2" $foreign --include="$3" "$suite" "$1" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
        { [ -n "$foreign" ] && ! second_stage "$1" >>"$cache/debootstrap.log" 2>&1; }; then
        cat "$1/debootstrap/debootstrap.log" >>"$cache/debootstrap.log" 2>/dev/null || :
        tail -n 40 "$cache/debootstrap.log" >&2
        for at in "$1/proc" "$1/sys"; do umount "$at" 2>/dev/null || :; done
        say "debootstrap failed: the log is $cache/debootstrap.log"
        exit 1
    fi
    for at in "$1/proc" "$1/sys"; do umount "$at" 2>/dev/null || :; done
}
# key FILE...: what a part is made of
key() { cat "$@" | sha256sum | cut -c1-16; }
# fresh PART KEY: whether it is there already
fresh() { [ "$(cat "$cache/$1.key" 2>/dev/null)" = "$2" ]; }

emulator_key=$(key "$emulator")
# shellcheck disable=SC2086 # files, one or two
guest_key=$(key build.sh $packages agent.service)
if fresh "$emulator" "$emulator_key" && fresh "$guest" "$guest_key"; then exit 0; fi
mkdir -p "$cache/packages"
exec 9>"$cache/lock"
# Whoever boots from here holds it shared.
flock --nonblock 9 || { say "waiting for those who use $cache"; flock 9; }

if ! fresh "$emulator" "$emulator_key"; then
    say "bootstrapping $suite's QEMU (about a minute)"
    rm -f "$cache/$emulator.key"
    bootstrap "$cache/$emulator" "$here" "$(cat "$emulator")"
    echo "$emulator_key" >"$cache/$emulator.key"
fi

if ! fresh "$guest" "$guest_key"; then
    say "bootstrapping $suite for the virtual machine (about two minutes)"
    rm -f "$cache/$guest.key"
    tree=$cache/$guest.tree
    # shellcheck disable=SC2086 # files, one or two
    bootstrap "$tree" "$arch" "$(sed "s/@ARCH@/$arch/" $packages)"
    install -m644 agent.service "$tree/etc/systemd/system/agent.service"
    mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
    ln -sf ../agent.service "$tree/etc/systemd/system/multi-user.target.wants/agent.service"
    echo cricket-node >"$tree/etc/hostname"
    echo "127.0.0.1 localhost cricket-node" >"$tree/etc/hosts"
    echo "/dev/vda / ext4 errors=remount-ro 0 1" >"$tree/etc/fstab"
    : >"$tree/etc/machine-id"
    # Timers would work beside the tests; a package's service must not start by itself.
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
        e2scrub_all.timer nftables.service docker-registry.service; do
        ln -sf /dev/null "$tree/etc/systemd/system/$unit"
    done
    # Profiles of desktop programs; loading them is a third of a boot.
    find "$tree/etc/apparmor.d" -maxdepth 1 -type f -delete
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
    cp -L "$(ls "$tree"/boot/vmlinuz-* | head -n 1)" "$cache/kernel$of"
    cp -L "$(ls "$tree"/boot/initrd.img-* | head -n 1)" "$cache/initrd$of"
    # The packages have made their caches; without this the first boot makes them again.
    touch "$tree/etc/.updated" "$tree/var/.updated"
    say "making its disk"
    rm -f "$cache/$guest.raw"
    truncate -s 6G "$cache/$guest.raw"
    PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 \
        -d "$tree" "$cache/$guest.raw"
    rm -rf --one-file-system "$tree"
    echo "$guest_key" >"$cache/$guest.key"
fi
