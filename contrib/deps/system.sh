#!/bin/sh
# Installs what is missing of the system's packages: apt-get (Debian 12, 13) or pacman (Arch).
#   system.sh run     what the daemon and the demo need
#   system.sh test    and what the tests need beyond it
set -eu
missing=""
# need COMMAND-OR-FILE DEBIAN-PACKAGE ARCH-PACKAGE ("-": the distribution has none, or needs none)
need() {
    case $1 in
    /*) [ -e "$1" ] && return ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return ;;
    esac
    if [ "$manager" = apt ]; then package=$2; else package=$3; fi
    [ "$package" = - ] || missing="$missing $package"
}

if command -v apt-get >/dev/null; then
    manager=apt cni=/usr/lib/cni/bridge
elif command -v pacman >/dev/null; then
    manager=pacman cni=/usr/lib/cni/bridge
else
    echo "deps: neither apt-get nor pacman here: install gcc, make, runc, CNI plugins, a static" \
        "busybox, iproute2, util-linux, iptables, nftables and curl yourself" >&2
    exit 0
fi
[ -e /opt/cni/bin/bridge ] && cni=/opt/cni/bin/bridge
need gcc gcc gcc
need make make make
need /etc/ssl/certs/ca-certificates.crt ca-certificates ca-certificates
need curl curl curl
need nsenter util-linux util-linux
need ip iproute2 iproute2
need iptables iptables iptables
need nft nftables nftables
need runc runc runc
need "$cni" containernetworking-plugins cni-plugins
need busybox busybox-static busybox
if [ "${1:-run}" = test ]; then
    need docker-registry docker-registry -
    need crictl - crictl
fi
[ -n "$missing" ] || exit 0
echo "deps: installing$missing"
exec "$(dirname "$0")/install.sh" "$manager" $missing
