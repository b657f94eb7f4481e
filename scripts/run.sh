#!/bin/sh
# Run logguardd from this checkout on its embedded defaults: SQLite, memory, ports above 1024, an ordinary user.
set -eu
cd "$(dirname "$0")/.."
data=${LOGGUARDD_RUN:-$PWD/run}
mkdir -p "$data"
set -- "$PWD/.venv/bin/logguardd" run --embedded "$data" "$@"
[ "$(id -u)" = 0 ] || exec "$@"

# Started by root: go on as somebody who is not.
user=${SUDO_USER:-nobody}
[ "$user" = root ] && user=nobody
become="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups --inh-caps=-all"
chown -R "$user" "$data"
PROBE='[ -w "$2" ] && exec "$1/.venv/bin/python" -c "import logguardd.app"'
if $become sh -c "$PROBE" sh "$PWD" "$data" 2>/dev/null; then
    exec $become "$@"
fi
# A checkout in root's home: let that user see it in its place, and nothing else of the folder that he may not enter.
SHOW='
mount --bind "$1" /mnt
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --move /mnt "$1"
cd "$1"
shift 2
exec "$@"'
closed=$PWD
while [ "$closed" != / ] && ! $become test -x "$(dirname "$closed")"; do closed=$(dirname "$closed"); done
if unshare --mount sh -euc "$SHOW" sh "$PWD" "$closed" $become sh -c "$PROBE" sh "$PWD" "$data" 2>/dev/null; then
    exec unshare --mount sh -euc "$SHOW" sh "$PWD" "$closed" $become "$@"
fi
echo "run.sh: $user cannot read what is in $PWD, so logguardd runs as root" >&2
exec "$@"
