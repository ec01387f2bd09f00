#!/bin/bash
# run.sh [x86_64|aarch64]: makepkg builds the package in a copy of the checkout, without privileges,
# and leaves the copy as it was; pacman installs it into a scratch root with a database of stubs,
# upgrades and removes it, and lets it take CRI-O's place; what is in it is looked at, and the
# installed program runs (another machine's under qemu-user). As root. The build is kept in
# target/arch, so a second run is quick.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
tree=$PWD
arch=${1:-$(uname -m)}
contrib/deps/arch.sh "$arch"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
# Always the same place, and files as old as ours: what cargo has built of it is still right.
copy=$tree/target/arch/checkout

fail() { echo "arch: FAILED: $*" >&2; exit 1; }
say() { echo "arch: $*"; }

# As somebody has it who runs makepkg in a checkout and has configured nothing: no BUILDDIR, where
# its cleaning is the most dangerous.
build() {
    rm -rf "$copy"
    mkdir -p "$copy"
    git ls-files -z | tar --null -T - -cf - | tar -C "$copy" -xf -
    git -C "$copy" init -q
    git -C "$copy" add -A
    local words=(--nodeps --force --noconfirm --nosign --clean --cleanbuild)
    if [ "$arch" != "$(uname -m)" ]; then
        words+=(--ignorearch --config "$tree/contrib/arch/makepkg-$arch.conf")
    fi
    # makepkg refuses root. In a user namespace of one user there are no privileges, and the tree,
    # cargo's registry and the toolchain are readable all the same.
    (cd "$copy" && PKGDEST=$scratch SRCDEST=$scratch PKGEXT=.pkg.tar.zst \
        CARGO_TARGET_DIR=$tree/target/arch LOGDEST=$scratch \
        unshare --user --map-user=1000 --map-group=1000 \
        env -u BUILDDIR makepkg "${words[@]}") >"$scratch/makepkg.log" 2>&1 ||
        { tail -n 60 "$scratch/makepkg.log"; fail "makepkg, as a user without privileges"; }
    if grep -E 'WARNING: (Package contains|backup entry)' "$scratch/makepkg.log"; then
        say "(makepkg's warnings above)"
    fi
    package=$(echo "$scratch"/cricket-*-"$arch".pkg.tar.zst)
    [ -f "$package" ] || fail "no package of that architecture: $(ls "$scratch")"
    git -C "$copy" diff --stat --exit-code || fail "makepkg has changed the checkout"
    local left; left=$(git -C "$copy" ls-files --others --exclude-standard)
    [ -z "$left" ] || fail "makepkg has left in the checkout: $left"
    [ -d "$copy/src/cri" ] || fail "makepkg has removed src"
}

# stub NAME [PROVIDES [FILE]]: a package that pacman believes to be installed, with a configuration
# file that a person has edited since
stub() {
    local entry=$root/var/lib/pacman/local/$1-1-1
    mkdir -p "$entry"
    printf '%%NAME%%\n%s\n\n%%VERSION%%\n1-1\n\n%%ARCH%%\nany\n\n' "$1" >"$entry/desc"
    [ -z "${2:-}" ] || printf '%%PROVIDES%%\n%s\n\n' "$2" >>"$entry/desc"
    printf '%%FILES%%\n' >"$entry/files"
    [ -n "${3:-}" ] || return 0
    printf '%s\n\n%%BACKUP%%\n%s\t%032d\n\n' "$3" "$3" 0 >>"$entry/files"
    mkdir -p "$(dirname "$root/$3")"
    echo '# mine' >"$root/$3"
}

pac() {
    pacman --config "$scratch/pacman.conf" --root "$root" --dbpath "$root/var/lib/pacman" \
        --cachedir "$scratch" --logfile "$scratch/pacman.log" --hookdir "$scratch/hooks" \
        --gpgdir "$scratch" --noconfirm --noscriptlet "$@" >"$scratch/pacman.out" 2>&1
}

install_in_scratch() {
    printf '[options]\nArchitecture = %s\nSigLevel = Never\nLocalFileSigLevel = Never\n' "$arch" \
        >"$scratch/pacman.conf"
    mkdir -p "$root/var/lib/pacman" "$scratch/hooks"
    pac -U "$package" && fail "pacman took it without what it depends on"
    grep -q 'oci-runtime' "$scratch/pacman.out" || fail "oci-runtime is not asked for"
    stub glibc; stub gcc-libs; stub cni-plugins; stub crun oci-runtime; stub cri-o
    pac -U "$package" && fail "pacman installed it beside CRI-O"
    grep -q 'conflict' "$scratch/pacman.out" || fail "cri-o is no conflict"
    rm -r "$root/var/lib/pacman/local/cri-o-1-1"
    pac -U "$package" || { cat "$scratch/pacman.out"; fail "pacman -U"; }
    say "pacman installed $(basename "$package"), $(du -h "$package" | cut -f1)"
}

contents() {
    tests/arch/contents.sh "$root" "$arch" || fail "what is in the package"
    (cd "$root" && find etc usr -type f | LC_ALL=C sort) >"$scratch/installed"
    diff -u tests/arch/files "$scratch/installed" || fail "the files are not those of tests/arch/files"
    say "$(wc -l <"$scratch/installed") files, as tests/arch/files has them"
}

runs() {
    local run=("$root/usr/bin/cricket")
    [ "$arch" = "$(uname -m)" ] || run=("qemu-$arch-static" -L "/usr/$arch-linux-gnu" "${run[@]}")
    local version; version=$("${run[@]}" --version)
    mkdir -p "$scratch/crio.conf.d"
    [[ $version == "cricket "* ]] || fail "--version: $version"
    "${run[@]}" --config "$root/etc/crio/crio.conf" --config-dir "$scratch/crio.conf.d" config \
        >"$scratch/effective" 2>"$scratch/warnings" || fail "the installed crio.conf is refused"
    [ ! -s "$scratch/warnings" ] || { cat "$scratch/warnings"; fail "crio.conf has warnings"; }
    "${run[@]}" config --default | cmp - "$root/etc/crio/crio.conf"
    printf '[crio.runtime]\nlog_level = "loud"\n' >"$scratch/wrong.conf"
    "${run[@]}" --config "$scratch/wrong.conf" config >/dev/null 2>&1 && fail "a wrong one is taken"
    say "$version runs: configuration, completions, manual page"
}

edits_are_kept() {
    echo '# mine' >>"$root/etc/crio/crio.conf"
    pac -U "$package" || { cat "$scratch/pacman.out"; fail "an upgrade"; }
    grep -q '^# mine' "$root/etc/crio/crio.conf" || fail "an upgrade has replaced an edited crio.conf"
    pac -R cricket || { cat "$scratch/pacman.out"; fail "pacman -R"; }
    grep -q '^# mine' "$root/etc/crio/crio.conf.pacsave" || fail "a removal lost an edited crio.conf"
    local left; left=$(cd "$root" && find usr etc -type f ! -name '*.pacsave' 2>/dev/null || :)
    [ -z "$left" ] || fail "left after pacman -R: $left"
    say "an edited crio.conf outlives upgrade and removal; nothing else is left"
}

# scriptlet COMMAND: with the package's own functions, in the root
scriptlet() {
    mkdir -p "$root/bin"
    cp "$(PATH=$PATH:/usr/sbin:/sbin command -v busybox)" "$root/bin/busybox"
    for applet in sh cat mv; do ln -sf busybox "$root/bin/$applet"; done
    bsdtar -xOf "$package" .INSTALL >"$root/INSTALL"
    PATH=$PATH:/usr/sbin:/sbin chroot "$root" /bin/sh -euc "PATH=/bin; . /INSTALL; $1" || fail "$1"
}

takes_the_place_of_crio() {
    rm "$root/etc/crio/crio.conf.pacsave"
    scriptlet post_install >"$scratch/said"
    grep -q pacsave "$scratch/said" && fail "a .pacsave is told of that is not there"
    stub cri-o '' etc/crio/crio.conf
    # 4: the question whether what is in conflict goes is answered by yes.
    pac -U --ask 4 "$package" || { cat "$scratch/pacman.out"; fail "pacman -U, instead of CRI-O"; }
    [ ! -e "$root/var/lib/pacman/local/cri-o-1-1" ] || fail "cri-o is still there"
    grep -qx '# mine' "$root/etc/crio/crio.conf.pacsave" || fail "CRI-O's crio.conf is lost"
    scriptlet post_install >"$scratch/said"
    local command; command=$(grep '^ *mv .*pacsave' "$scratch/said") ||
        { cat "$scratch/said"; fail "nobody is told of crio.conf.pacsave"; }
    scriptlet "$command"
    grep -qx '# mine' "$root/etc/crio/crio.conf" || fail "not taken back by: $command"
    say "CRI-O's crio.conf is kept beside ours, and who installs is told how to take it back"
}

build
install_in_scratch
contents
runs
edits_are_kept
takes_the_place_of_crio
echo "arch: $arch: 6 passed, 0 failed"
