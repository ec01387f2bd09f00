#!/bin/sh
# install.sh apt|pacman PACKAGE...: installs packages without questions and without starting the
# services that some bring (docker-registry would listen on port 5000 from then on, nginx on 80).
set -eu
manager=$1
shift
if [ "$(id -u)" != 0 ]; then
    echo "deps: not root: install these, or run this as root: $*" >&2
    exit 1
fi
if [ "$manager" = pacman ]; then
    pacman -S --needed --noconfirm "$@" || exec pacman -Sy --needed --noconfirm "$@"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    # What Debian asks before it starts a service: 101 means no.
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" </dev/null
[ -d /run/systemd/system ] || exit 0
for service in docker-registry nginx; do
    case " $* " in *" $service "*) systemctl disable --quiet "$service" 2>/dev/null || : ;; esac
done
