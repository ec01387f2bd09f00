#!/bin/sh
# Installs what is missing of the system's packages: apt-get (Debian 12, 13) or pacman (Arch).
#   system.sh install   what building the daemon and running it need
#   system.sh run     and what the demo needs beyond it
#   system.sh test    and what the tests need beyond it
#   system.sh conformance   and what the stand-ins for critest's images are made of
#   system.sh list    prints the packages of both, as if nothing were installed
set -eu
mode=${1:-run}
missing=""
# need COMMAND-OR-FILE DEBIAN-PACKAGE ARCH-PACKAGE ("-": the distribution has none, or needs none)
need() {
    if [ "$mode" != list ]; then
        case $1 in
        /*) [ -e "$1" ] && return ;;
        static-busybox) static_busybox && return ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return ;;
        esac
    fi
    if [ "$manager" = apt ]; then package=$2; else package=$3; fi
    [ "$package" = - ] || missing="$missing $package"
}
# Debian's package busybox is linked dynamically, which is no use in an image; a program that is
# names its loader near its beginning. apt swaps it for busybox-static: they exclude each other.
static_busybox() {
    busybox=$(PATH=$PATH:/usr/sbin:/sbin command -v busybox) || return 1
    ! head -c 4096 "$busybox" | grep -qa -e '/lib64/' -e '/lib/ld'
}

if command -v apt-get >/dev/null; then
    manager=apt cni=/usr/lib/cni/bridge
elif command -v pacman >/dev/null; then
    manager=pacman cni=/usr/lib/cni/bridge
else
    echo "deps: neither apt-get nor pacman here: install gcc, make, runc, CNI plugins, a static" \
        "busybox, iproute2, util-linux, procps, iptables, nftables, curl and nginx yourself" >&2
    exit 0
fi
[ -e /opt/cni/bin/bridge ] && cni=/opt/cni/bin/bridge
need gcc gcc gcc
# Debian's gcc only recommends it, and recommendations are not installed.
need /usr/include/stdlib.h libc6-dev glibc
need make make make
need /etc/ssl/certs/ca-certificates.crt ca-certificates ca-certificates
need curl curl curl
need nsenter util-linux util-linux
need mount mount util-linux
need ip iproute2 iproute2
need iptables iptables iptables
need nft nftables nftables
# The compiler of AppArmor profiles, for kernels that have AppArmor on, as Debian's.
need apparmor_parser apparmor apparmor
# One is enough for a node, and crun, which would become the default, is the owner's choice.
if [ "$mode" != install ] || ! command -v crun >/dev/null; then need runc runc runc; fi
need "$cni" containernetworking-plugins cni-plugins
[ "$mode" = install ] || need static-busybox busybox-static busybox
if [ "$mode" != install ] && [ "$mode" != run ]; then
    # Arch has no docker-registry: registry.sh builds it.
    need docker-registry docker-registry -
    need crictl - crictl
    need skopeo skopeo skopeo
    need gpg gnupg gnupg
    need conntrack conntrack conntrack-tools
    # Its tools read units; nothing of it has to run.
    need systemd-analyze systemd systemd
    need openssl openssl openssl
    # runc.sh builds a current runc with them.
    need /usr/include/seccomp.h libseccomp-dev libseccomp
    need pkg-config pkg-config pkgconf
fi
if [ "$mode" = conformance ] || [ "$mode" = list ]; then
    need nginx nginx nginx
    need ipcs util-linux util-linux
    need pgrep procps procps-ng
fi
if [ "$mode" = list ]; then
    printf '%s\n' $missing
    exit 0
fi
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
exec "$(dirname "$0")/install.sh" "$manager" $missing
