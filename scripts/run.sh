#!/bin/sh
# Run logguardd from this checkout on its embedded defaults: SQLite, memory, ports above 1024, an ordinary user.
set -eu
cd "$(dirname "$0")/.."
data=${LOGGUARDD_RUN:-$PWD/run}
mkdir -p "$data"
set -- "$PWD/.venv/bin/logguardd" run --embedded "$data" "$@"

if [ "$(id -u)" = 0 ]; then
    # Started by root: go on as somebody who is not, where that somebody can run what is here.
    user=${SUDO_USER:-nobody}
    [ "$user" = root ] && user=nobody
    become="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups --inh-caps=-all"
    if $become .venv/bin/python -c 'import logguardd.app' 2>/dev/null; then
        chown -R "$user" "$data"
        exec $become "$@"
    fi
    echo "run.sh: $user cannot read what is in $PWD, so logguardd runs as root" >&2
fi
exec "$@"
