"""What is on a machine, to be compared after logguardd has been there and gone."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.nspawn import Guest

# Where others note what they did: apt, dpkg, the journal, Python, and files of a moment.
_OTHERS = (
    "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log/apt", "/var/log/journal", "/var/log/postgresql",
    "/var/lib/postgresql", "/var/lib/redis", "/tmp", "/var/tmp", "/shared", "/root",
)  # fmt: skip
_LIST = (
    "find / -xdev "
    + " ".join(f"-path {folder} -prune -o" for folder in _OTHERS)
    + " -name __pycache__ -prune -o -printf '%y %m %u:%g %p %l\\n' | LC_ALL=C sort"
)
_STATE = {
    "files": _LIST,
    "users": "getent passwd; getent group",
    "tables": "nft list tables 2>/dev/null || true",
    "units": "systemctl list-units --all --plain --no-legend --type=service,socket | awk '{print $1}' | sort",
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


def leftovers(guest: Guest) -> dict[str, list[str]]:
    """Return what is there now and was not then, or the other way round, by kind; kinds without a difference are left out."""
    found = {}
    for name, text in _look(guest).items():
        before, after = set(guest.file(f"/shared/before/{name}").splitlines()), set(text.splitlines())
        if before != after:
            found[name] = sorted([f"+ {line}" for line in after - before] + [f"- {line}" for line in before - after])
    return found


def _look(guest: Guest) -> dict[str, str]:
    return {name: guest.run("sh", "-c", script).stdout for name, script in _STATE.items()}
