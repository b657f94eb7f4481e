#!/bin/sh
# Run a command as another user, who is shown this checkout in its place where he may not go there: in root's home.
#   scripts/as-user.sh USER COMMAND [ARGUMENT...]     as root; exit status 126: USER cannot read what is here
set -eu
user=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
become="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups --inh-caps=-all"

# shellcheck disable=SC2086 # a command line of several words is meant
if $become test -r "$here/logguardd/cli.py"; then exec $become "$@"; fi

# In a mount namespace: the checkout, and nothing else, of the topmost folder that is closed to USER.
closed=$here
while [ "$closed" != / ] && ! $become test -x "$(dirname "$closed")"; do closed=$(dirname "$closed"); done
# shellcheck disable=SC2016 # the inner shell's parameters
show='
here=$1 closed=$2 back=$PWD
shift 2
mount --bind "$here" /mnt
mount -t tmpfs -o mode=755 tmpfs "$closed"
mkdir -p "$here"
mount --move /mnt "$here"
cd "$back" 2>/dev/null || cd /
exec "$@"'
# shellcheck disable=SC2086
unshare --mount sh -euc "$show" sh "$here" "$closed" $become test -r "$here/logguardd/cli.py" 2>/dev/null || exit 126
# shellcheck disable=SC2086
exec unshare --mount sh -euc "$show" sh "$here" "$closed" $become "$@"
