#!/bin/sh
# Run apt-get without questions, as root or through sudo; wait for another one, as runs on a machine that has just booted.
#   scripts/apt.sh install PACKAGE...
#   scripts/apt.sh build-dep FOLDER
# Where that does not work, the last line says what is to be done as root.
set -eu
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here; please have installed what Debian calls: $*" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then sudo=""
elif command -v sudo >/dev/null 2>&1; then sudo=sudo
else sudo=false
fi

# sudo passes no environment on. Without a locale of its own, perl complains where that of the caller is not installed.
# When the lists cannot be updated, those that are there may do: a foreign repository's trouble is not ours.
# shellcheck disable=SC2016 # the inner shell's parameters
$sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} sh -euc '
    exec 3>&1
    until said=$(apt-get -q update 2>&1 >&3); do
        case $said in */lists/lock*) ;; *) break ;; esac
        echo "setup: waiting for another apt-get to end"
        sleep 5
    done
    [ -z "$said" ] || printf "%s\n" "$said" >&2
    exec apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=900 "$@"' apt "$@" && exit
echo "setup: that did not work; needed first, as root: apt-get --no-install-recommends $*" >&2
exit 1
