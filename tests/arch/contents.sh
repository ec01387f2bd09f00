#!/bin/sh
# contents.sh ROOT ARCH: what namcap would look at, and what this package promises, in an installed
# root. Prints what is wrong.
set -eu
root=$1
arch=$2
wrong=0
bad() { echo "arch: $*" >&2; wrong=1; }

case $arch in aarch64) machine=AArch64 ;; *) machine=X86-64 ;; esac
for program in bin/cricket lib/cricket/conmon lib/cricket/pause; do
    file=$root/usr/$program
    readelf -h "$file" | grep -q "Machine:.*$machine" || bad "$program is not for $arch"
    [ "$(stat -c %a "$file")" = 755 ] || bad "$program: mode $(stat -c %a "$file")"
    readelf -S "$file" | grep -q '\.symtab' && bad "$program is not stripped"
    needed=$(readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    for library in $needed; do
        case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*) ;;
        *) bad "$program needs $library, which no package of depends= has" ;;
        esac
    done
    readelf -lW "$file" | grep -q 'GNU_STACK.* RWE' && bad "$program has an executable stack"
done
for alone in conmon pause; do
    readelf -lW "$root/usr/lib/cricket/$alone" | grep -q INTERP && bad "$alone is not static"
done
find "$root/etc" "$root/usr" -perm /7022 ! -type l -print | grep . && bad "modes above"
find "$root/etc" "$root/usr" ! -user root -print | grep . && bad "owners above"
find "$root/etc" "$root/usr" -type f -size 0 -print | grep . && bad "empty files above"
for unit in cricket.service cricket-shutdown.service; do
    grep -q '^Exec.*=/usr/bin/cricket ' "$root/usr/lib/systemd/system/$unit" ||
        bad "$unit does not run /usr/bin/cricket"
done
exit "$wrong"
