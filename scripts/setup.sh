#!/bin/sh
# Install what is missing, then make .venv with logguardd in it.
#   scripts/setup.sh            what the daemon needs
#   scripts/setup.sh test       that, and the servers and tools of the tests
#   scripts/setup.sh debian     that, and Debian's own Python packages, to test with them
#   scripts/setup.sh packages   that of test, and what builds packages and boots machines to try them on
set -eu
cd "$(dirname "$0")/.."
what=${1:-run}
# The system's own Python, since any user of the machine may run it; PYTHON=... chooses another.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && PYTHON=/usr/bin/python3
fi

missing=""
need() { # need PROGRAM-OR-FILE PACKAGE...
    probe=$1; shift
    case $probe in
        */*) [ -e "$probe" ] && return ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$probe" >/dev/null 2>&1 && return ;;
    esac
    missing="$missing $*"
}
need "$PYTHON" python3
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
# What README and the daemon's first words tell to type.
need curl curl
need sqlite3 sqlite3
if [ "$what" != run ]; then
    # systemd-python has no wheels: it is built where a compiler and the headers are at hand.
    need gcc gcc libc6-dev
    need pkg-config pkg-config
    need /usr/include/systemd/sd-daemon.h libsystemd-dev
    "$PYTHON" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
        2>/dev/null || missing="$missing python3-dev"
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
    need psql postgresql-client
    need redis-server redis-server
    need redis-cli redis-tools
    need rsyslogd rsyslog
    set -- /usr/lib/*/rsyslog/lmnsd_gtls.so; need "$1" rsyslog-gnutls
    set -- /usr/lib/*/rsyslog/lmnsd_ossl.so; need "$1" rsyslog-openssl
    set -- /usr/lib/*/rsyslog/omrelp.so; need "$1" rsyslog-relp
    need nft nftables
    need iptables iptables
    need ipset ipset
    need ip iproute2
    need openssl openssl
    need logger bsdutils
    need setpriv util-linux
    need sysctl procps
    need systemd-analyze systemd
    need mandoc mandoc
    need /usr/share/zoneinfo/Europe/Berlin tzdata
fi
if [ "$what" = debian ]; then
    for module in aiohttp asyncpg click cryptography daemon hypothesis prometheus_client pyparsing pytest redis rich \
        systemd uvloop; do
        need /usr/lib/python3/dist-packages/$module "python3-$(echo $module | tr _ -)"
    done
    need /usr/lib/python3/dist-packages/xdist python3-pytest-xdist
fi
if [ "$what" = packages ]; then
    need git git
    need dpkg-buildpackage dpkg-dev
    need lintian lintian
    need rpmbuild rpm
    need rpmlint rpmlint
    need apparmor_parser apparmor
    need debootstrap debootstrap
    need systemd-nspawn systemd-container
    need ssh openssh-client
fi

if [ -n "$missing" ]; then
    echo "setup: installing$missing"
    # shellcheck disable=SC2086 # a list of words is meant
    scripts/apt.sh install $missing
fi

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $("$PYTHON" --version) is too old; needed is 3.11 or newer: PYTHON=/path/to/python3.11 make ..." >&2
    exit 1
}
# A .venv that was made elsewhere, before the checkout was moved or copied, leads there.
made=$(sed -nE 's/^command = .* -m venv (--clear )?//p' .venv/pyvenv.cfg 2>/dev/null) || true
{ [ "$made" = "$(pwd -P)/.venv" ] && .venv/bin/python -m pip --version >/dev/null 2>&1; } || "$PYTHON" -m venv --clear .venv
echo "setup: installing Python packages into .venv"
pip() { .venv/bin/python -m pip install -q --disable-pip-version-check "$@"; }
needs=setup
[ "$what" = run ] || needs=setup,test,check
pip -e ".[$needs]" || {
    echo "setup: pip could not install what setup.cfg lists; it needs PyPI, or another index (pip config set global.index-url URL)" >&2
    exit 1
}
if [ "$what" != run ]; then
    .venv/bin/python -c 'import systemd.journal' 2>/dev/null || pip --use-pep517 "systemd-python>=235" ||
        echo "setup: systemd-python could not be built; logguardd logs to standard error instead of the journal's API"
fi
# Only the module of rsyslog-pgsql, for the benchmark: installed, the package sends this machine's log to a database.
set -- /usr/lib/*/rsyslog/ompgsql.so
if [ "$what" != run ] && ! [ -e "$1" ] && ! [ -e .venv/lib/rsyslog/ompgsql.so ]; then
    mkdir -p .venv/lib/rsyslog
    (cd .venv/lib/rsyslog && apt-get -q -o APT::Sandbox::User=root download rsyslog-pgsql &&
        dpkg-deb -x rsyslog-pgsql_*.deb . && mv usr/lib/*/rsyslog/ompgsql.so . && rm -r usr rsyslog-pgsql_*.deb) ||
        echo "setup: rsyslog-pgsql could not be downloaded; make bench needs its ompgsql.so" >&2
fi
pwd -P >.venv/ready
[ "$what" != run ] && touch .venv/ready-test
case $what in debian | packages) touch ".venv/ready-$what" ;; esac
exit 0
