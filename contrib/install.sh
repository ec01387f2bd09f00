#!/bin/sh
# install.sh install|uninstall: the release build ($PROFILE: another one) below $DESTDIR$PREFIX,
# configuration below $DESTDIR/etc. A configuration file that is there already is kept.
set -eu
cd "$(dirname "$0")/.."
built=${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
prefix=${DESTDIR:-}${PREFIX:-/usr/local}
etc=${DESTDIR:-}/etc
share=$prefix/share

# put MODE SOURCE TARGET
put() {
    if [ "$verb" = install ]; then install -Dm"$1" "$2" "$3"; else rm -f "$3"; fi
}
# keep SOURCE TARGET: for files that a person edits
keep() {
    if [ "$verb" = install ] && [ ! -e "$2" ]; then install -Dm644 "$1" "$2"; fi
}

verb=${1:-}
case $verb in install | uninstall) ;; *) echo "usage: install.sh install|uninstall" >&2; exit 2 ;; esac
if [ "$verb" = install ] && [ ! -x "$built/cricket" ]; then
    echo "install: $built/cricket is not built: run \`make release\` first" >&2
    exit 1
fi
put 755 "$built/cricket" "$prefix/bin/cricket"
for helper in conmon pause; do put 755 "$built/$helper" "$prefix/lib/cricket/$helper"; done
for page in docs/*.[1-8]; do
    [ -e "$page" ] && put 644 "$page" "$share/man/man${page##*.}/${page##*/}"
done
put 644 completions/cricket.bash "$share/bash-completion/completions/cricket"
put 644 completions/cricket.fish "$share/fish/vendor_completions.d/cricket.fish"
put 644 completions/_cricket "$share/zsh/site-functions/_cricket"
for example in crictl.yaml policy.json registries.conf 10-crio-bridge.conflist seccomp.json; do
    put 644 "contrib/$example" "$share/cricket/examples/$example"
done
for example in contrib/kubernetes/*; do
    put 644 "$example" "$share/cricket/examples/kubernetes/${example##*/}"
done
put 644 docs/first-cluster.md "$share/doc/cricket/first-cluster.md"
for unit in cricket.service cricket-shutdown.service; do
    put 644 "contrib/systemd/$unit" "$prefix/lib/systemd/system/$unit"
    [ "$verb" = uninstall ] ||
        sed -i "s|/usr/bin/cricket|${PREFIX:-/usr/local}/bin/cricket|" \
            "$prefix/lib/systemd/system/$unit"
done
put 644 contrib/kernel/cricket.modules "$prefix/lib/modules-load.d/cricket.conf"
put 644 contrib/kernel/cricket.sysctl "$prefix/lib/sysctl.d/90-cricket.conf"
put 644 contrib/systemd/cricket.tmpfiles "$prefix/lib/tmpfiles.d/cricket.conf"
keep contrib/crio.conf "$etc/crio/crio.conf"
