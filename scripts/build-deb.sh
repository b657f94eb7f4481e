#!/bin/sh
# Build dist/logguardd_VERSION_all.deb from what is committed: an exported tree in build/deb, in which packaging/debian is
# debian/. Build dependencies that are missing are installed, as root or through sudo.
#   scripts/build-deb.sh             the version that packaging/debian/changelog names
#   scripts/build-deb.sh 0.1.0~1     another one, for trying upgrades
set -eu
cd "$(dirname "$0")/.."
own=$(sed -nE '1s/^[^(]*\(([^)]*)\).*/\1/p' packaging/debian/changelog)
version=${1:-$own}

command -v dpkg-buildpackage >/dev/null 2>&1 || scripts/apt.sh install dpkg-dev
command -v git >/dev/null 2>&1 || scripts/apt.sh install git

build=$PWD/build/deb
dist=$PWD/dist
tree=$build/logguardd-$version
rm -rf "$build"
mkdir -p "$tree" "$dist"
git archive --format=tar HEAD | tar -x -C "$tree"
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "build-deb: what is not committed is not in the package" >&2
cp -R "$tree/packaging/debian" "$tree/debian"

if [ "$version" != "$own" ]; then
    {
        printf 'logguardd (%s) unstable; urgency=medium\n\n  * Built for trying.\n\n' "$version"
        sed -n '/^ -- /{p;q}' "$tree/packaging/debian/changelog"
        echo
        cat "$tree/packaging/debian/changelog"
    } >"$tree/debian/changelog"
fi

cd "$tree"
# Debian's own python3, whatever else is on this machine.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg-checkbuilddeps 2>/dev/null || "$OLDPWD/scripts/apt.sh" build-dep "$tree"
dpkg-buildpackage --build=binary --unsigned-source --unsigned-changes
cd "$build"
cp logguardd_"$version"_* "$dist"
