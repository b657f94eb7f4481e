"""What is on a machine, to be compared after logguardd has been there and gone."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.nspawn import Guest

# Where others note what they did: apt, dpkg, the journal, rsyslog, Python, and files of a moment.
_OTHERS = (
    "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log/apt", "/var/log/journal", "/var/log/postgresql",
    "/var/lib/postgresql", "/var/lib/redis", "/var/spool/rsyslog", "/tmp", "/var/tmp", "/shared", "/root",
)  # fmt: skip
_LOGS = r"/var/log/\(auth\|cron\|kern\|mail\|user\)[.]log"
_LIST = (
    "find / -xdev "
    + " ".join(f"-path {folder} -prune -o" for folder in _OTHERS)
    + f" -name __pycache__ -prune -o -regex '{_LOGS}' -o -printf '%y %m %u:%g %p %l\\n' | LC_ALL=C sort"
)
_STATE = {
    "files": _LIST,
    "users": "getent passwd; getent group",
    "tables": "nft list tables 2>/dev/null || true",
    "unit files": "systemctl list-unit-files --no-legend | awk '{print $1, $2}' | sort",
}


def remember(guest: Guest, package: Path) -> None:
    """Install what the package depends on, and note what is there before the package itself is."""
    depends = subprocess.run(
        ["dpkg-deb", "-f", str(package), "Depends"], capture_output=True, text=True, check=True
    ).stdout.strip()
    guest.apt("satisfy", "--no-install-recommends", depends)
    for name, text in _look(guest).items():
        guest.write(f"/shared/before/{name}", text)


def leftovers(guest: Guest) -> str:
    """Return what is there now and was not then, or the other way round: a line each, with its kind."""
    found = []
    for name, text in _look(guest).items():
        before, after = set(guest.file(f"/shared/before/{name}").splitlines()), set(text.splitlines())
        found += [f"{name}: + {line}" for line in sorted(after - before)]
        found += [f"{name}: - {line}" for line in sorted(before - after)]
    return "\n".join(found)


def _look(guest: Guest) -> dict[str, str]:
    return {name: guest.run("sh", "-c", script).stdout for name, script in _STATE.items()}
