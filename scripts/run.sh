#!/bin/sh
# Run logguardd from this checkout on its embedded defaults: SQLite, memory, ports above 1024, an ordinary user.
set -eu
cd "$(dirname "$0")/.."
data=${LOGGUARDD_RUN:-$PWD/run}
[ -x .venv/bin/logguardd ] || { echo "run.sh: nothing is installed yet; \`make run\` does that first" >&2; exit 2; }
mkdir -p "$data"
set -- "$PWD/.venv/bin/logguardd" run --embedded "$data" "$@"

if [ "$(id -u)" = 0 ]; then
    # Started by root: go on as who called sudo, else as the checkout's owner, else as nobody.
    for user in "${SUDO_USER:-root}" "$(stat -c %U .)" nobody; do
        case $user in root | UNKNOWN) ;; *) break ;; esac
    done
    chown -R "$user" "$data"
    # shellcheck disable=SC2016 # the inner shell's parameter
    if scripts/as-user.sh "$user" sh -c '[ -w "$1" ] && .venv/bin/python -c "import logguardd.app" 2>/dev/null' sh "$data"; then
        exec scripts/as-user.sh "$user" "$@"
    fi
    echo "run.sh: $user cannot use what is in $PWD, so logguardd runs as root" >&2
fi
exec "$@"
