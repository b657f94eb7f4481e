"""Stand-ins for the images of Docker Hub, made of Debian's packages: no account, no limits, no outside but the mirror."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import debian
from tests.servers.process import need

if TYPE_CHECKING:
    from tests.system.containers.engine import Engine

HERE = Path(__file__).parent
# As in Debian's own slim images: what is left out is missed there, too.
_SLIM = """\
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/overrides/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
path-include /usr/share/doc/*/copyright
path-include /usr/share/locale/locale.alias
"""
# Nor does what apt downloads and makes of it stay in a layer.
_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""


def make_slim(engine: Engine, suite: str, folder: Path) -> str:
    """Make debian:VERSION-slim; return its name."""
    (debootstrap,) = need("debootstrap")
    uris = debian.mirror(suite)
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    debian.checked(
        [debootstrap, "--variant=minbase", "--include=ca-certificates", f"--cache-dir={debian.archives(suite)}",
         *([f"--keyring={keyring}"] if keyring.exists() else []), suite, str(folder), uris[suite]],
        timeout=900,
    )  # fmt: skip
    (folder / "etc/apt/sources.list").write_text("".join(f"deb {uri} {name} main\n" for name, uri in uris.items()))
    (folder / "etc/apt/apt.conf.d/90host").write_text(debian.settings(folder))
    (folder / "etc/dpkg/dpkg.cfg.d/docker").write_text(_SLIM + "force-unsafe-io\n")
    # No service is started while a package is installed.
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (folder / "etc/apt/apt.conf.d/docker-clean").write_text(_CLEAN)
    for left in ("usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/doc", "var/lib/apt/lists"):
        shutil.rmtree(folder / left)
        (folder / left).mkdir()
    debian.checked(["chroot", str(folder), "sh", "-c", "rm -f /var/cache/apt/archives/*.deb"])
    tag = f"debian:{debian.SUITES[suite]}-slim"
    engine.take(tag, ["tar", "-C", str(folder), "-c", "."])
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    return tag


def make_servers(engine: Engine) -> None:
    """Make postgres:15 and redis:7."""
    engine.build("postgres:15", str(HERE / "postgres"))
    engine.build("redis:7", str(HERE / "redis"))
