#!/bin/sh
# Build dist/logguardd-VERSION-*.noarch.rpm from what is committed. On Fedora the build requirements must be installed
# (dnf builddep packaging/rpm/logguardd.spec); on Debian, where rpm does not know what is installed, they are those of `make deb`.
#   scripts/build-rpm.sh [RPMBUILD-OPTION...]     for example --without check
set -eu
cd "$(dirname "$0")/.."
version=$(sed -nE 's/^Version: +//p' packaging/rpm/logguardd.spec)
top=$PWD/build/rpm

if [ -e /etc/debian_version ]; then
    # Debian's own python3, whatever else is on this machine.
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    set -- --nodeps "$@"
    need=""
    command -v rpmbuild >/dev/null 2>&1 || need="rpm"
    /usr/bin/python3 -c 'import setuptools, wheel' 2>/dev/null || need="$need python3-setuptools python3-wheel"
    # shellcheck disable=SC2086 # a list of words is meant
    [ -z "$need" ] || scripts/apt.sh install $need
fi

rm -rf "$top"
mkdir -p "$top/SOURCES" dist
git archive --format=tar.gz --prefix="logguardd-$version/" -o "$top/SOURCES/logguardd-$version.tar.gz" HEAD
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "build-rpm: what is not committed is not in the package" >&2
git show HEAD:systemd/logguardd.sysusers.conf >"$top/SOURCES/logguardd.sysusers.conf"
git show HEAD:packaging/rpm/logguardd.spec >"$top/logguardd.spec"
# The same commit gives the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rpmbuild -bb --define "_topdir $top" --define "_dbpath $top/db" --define "clamp_mtime_to_source_date_epoch 1" \
    --define "use_source_date_epoch_as_buildtime 1" --define "_buildhost localhost" "$@" "$top/logguardd.spec"
cp "$top"/RPMS/noarch/*.rpm dist/
