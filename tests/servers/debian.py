"""Debian trees made by debootstrap, kept outside the checkout so that the next run has them at once.

The packages come from where this machine has its own: its mirror, its proxy, its certificate authorities.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import need, need_root

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES = {"bookworm": 12, "trixie": 13}
# What a small server has before anything is installed on it.
PACKAGES = ("ca-certificates", "dbus", "iproute2", "openssh-server", "procps", "rsyslog", "systemd", "systemd-sysv")
# Made again when any of this changes.
_RECIPE = 2
_DAY = 86400
_APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")


def cache() -> Path:
    """Return the folder of what is kept: LOGGUARDD_TEST_CACHE, or /var/cache/logguardd-test."""
    return Path(os.environ.get("LOGGUARDD_TEST_CACHE") or "/var/cache/logguardd-test")


@contextmanager
def exclusively() -> Iterator[None]:
    """Hold the cache: a second run waits here until the first has ended."""
    need_root()
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Of runs that were killed: nobody uses them, or the lock would be held.
        for left in cache().glob("run-*"):
            shutil.rmtree(left)
        yield


def tree(suite: str) -> Path:
    """Return the folder of a fresh Debian, to be used as the lower one of an overlay; call it inside exclusively()."""
    (debootstrap,) = need("debootstrap")
    uris = mirror(suite)
    digest = hashlib.sha256(repr((_RECIPE, PACKAGES, sorted(uris.items()))).encode()).hexdigest()[:12]
    folder = cache() / f"{suite}-{digest}"
    if folder.exists() and time.time() - folder.stat().st_ctime > 30 * _DAY:
        _remove(folder)
    for older in cache().glob(f"{suite}-*"):
        if older != folder:
            _remove(older)
    if not folder.exists():
        making = folder.with_name(folder.name + ".making")
        _make(debootstrap, suite, uris, making)
        making.rename(folder)
    lists = folder / "var/lib/apt/lists"
    if time.time() - lists.stat().st_mtime > _DAY / 2:
        _chroot(folder, *_APT, "update")
        os.utime(lists)
    return folder


def archives(suite: str) -> Path:
    """Return the folder of downloaded packages, for a guest's /var/cache/apt/archives."""
    folder = cache() / f"archives.{suite}"
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    return folder


def copy_resolver(root: Path) -> None:
    """Let programs in ``root`` that run in this machine's network resolve names as it does."""
    target = root / "etc/resolv.conf"
    target.unlink(missing_ok=True)
    target.write_text(Path("/etc/resolv.conf").read_text())


def _make(debootstrap: str, suite: str, uris: dict[str, str], folder: Path) -> None:
    folder.mkdir()
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    command = [
        debootstrap,
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--cache-dir={archives(suite)}",
        *([f"--keyring={keyring}"] if keyring.exists() else []),
        suite,
        str(folder),
        uris[suite],
    ]
    checked(command, timeout=900)
    (folder / "etc/apt/sources.list").write_text("".join(f"deb {uri} {name} main\n" for name, uri in uris.items()))
    (folder / "etc/apt/apt.conf.d/90host").write_text(settings(folder))
    # The trees are thrown away: nothing has to survive a power failure.
    (folder / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        (folder / "etc/systemd/system" / timer).symlink_to("/dev/null")
    own = [file for file in Path("/usr/local/share/ca-certificates").glob("**/*.crt") if file.is_file()]
    for number, file in enumerate(own):
        shutil.copy(file, folder / f"usr/local/share/ca-certificates/host-{number}.crt")
    if own:
        _chroot(folder, "update-ca-certificates")
    copy_resolver(folder)
    _chroot(folder, *_APT, "update")
    _chroot(folder, *_APT, "upgrade")


def mirror(suite: str) -> dict[str, str]:
    """Return the URI of each part of the suite: as DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR say, else where this machine
    has its own Debian from, else Debian's.
    """
    names = {"": "http://deb.debian.org/debian", "-security": "http://deb.debian.org/debian-security"}
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )  # fmt: skip
    if release.get("ID", "").strip('"') == "debian":
        codename = release.get("VERSION_CODENAME", "").strip('"')
        listed = checked(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"])
        for name, _, uri in (line.partition(" ") for line in listed.splitlines()):
            if uri.startswith("http") and name.startswith(codename) and name[len(codename) :] in names:
                names[name[len(codename) :]] = uri.rstrip("/")
    given = {"": os.environ.get("DEBIAN_MIRROR"), "-security": os.environ.get("DEBIAN_SECURITY_MIRROR")}
    return {suite + part: given[part] or uri for part, uri in names.items()}


def settings(folder: Path) -> str:
    """Return how this machine's apt gets at its mirror; a certificate file named there is copied."""
    lines = []
    for line in checked(["apt-config", "dump"]).splitlines():
        key, _, value = line.partition(" ")
        wanted = key.startswith(("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries"))
        if wanted and "Auto-Detect" not in key and value != '"";':
            lines.append(f"{line}\n")
            file = Path(value.strip('";'))
            if file.is_absolute() and file.is_file():
                target = folder / file.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
    return "".join(lines)


def _chroot(folder: Path, *argv: str) -> None:
    checked(["chroot", str(folder), *argv], timeout=600)


def checked(argv: list[str], timeout: float = 60) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _remove(folder: Path) -> None:
    if folder.name.endswith(".making"):
        # debootstrap was interrupted: it may have left /proc and /sys of the tree mounted.
        for mounted in ("proc", "sys"):
            subprocess.run(["umount", "-l", str(folder / mounted)], capture_output=True, check=False)
    shutil.rmtree(folder)
