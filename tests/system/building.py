"""The packages under test, built from clean checkouts: this one, and an earlier one to be upgraded from."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.servers.daemon import CHECKOUT
from tests.servers.process import need

#: Stands in a conffile of the earlier package and not in that of this one.
EARLIER_LINE = "# As the earlier package had it.\n"


@dataclass(frozen=True, slots=True)
class Packages:
    """Two builds of logguardd_*.deb and their versions."""

    earlier: Path
    current: Path

    @property
    def earlier_version(self) -> str:
        return self.earlier.name.split("_")[1]

    @property
    def version(self) -> str:
        return self.current.name.split("_")[1]


def build(folder: Path) -> Packages:
    """Build both, one after the other: they want the same build dependencies installed.

    LOGGUARDD_TEST_PACKAGES names a folder with both as an earlier run built them, to save the time.
    """
    if built := os.environ.get("LOGGUARDD_TEST_PACKAGES"):
        both = set(Path(built).glob("logguardd_*_all.deb"))
        (earlier,) = {file for file in both if "~earlier" in file.name}
        (current,) = both - {earlier}
        return Packages(earlier, current)
    need("git", "make")
    current = _clone(folder / "current")
    earlier = _clone(folder / "earlier")
    shipped = earlier / "etc/logguardd.toml"
    shipped.write_text(EARLIER_LINE + shipped.read_text())
    _checked(
        "git", "-c", "user.name=test", "-c", "user.email=test@example.net", "commit", "-qam", "Earlier", cwd=earlier
    )
    version = re.search(r"\((.*?)\)", (current / "packaging/debian/changelog").read_text())[1]  # type: ignore[index]
    # The unit tests of the same code run once, in the other build.
    _checked("scripts/build-deb.sh", f"{version}~earlier", cwd=earlier, DEB_BUILD_OPTIONS="nocheck")
    _checked("make", "deb", cwd=current)
    return Packages(_only(earlier), _only(current))


class Building:
    """The packages, being built beside whatever else is to be done."""

    def __init__(self, folder: Path) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._packages = self._pool.submit(build, folder)

    def wait(self) -> Packages:
        return self._packages.result()

    def close(self) -> None:
        self._pool.shutdown()


def _clone(folder: Path) -> Path:
    _checked("git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks", str(CHECKOUT), str(folder))
    return folder


def _only(checkout: Path) -> Path:
    (found,) = (checkout / "dist").glob("logguardd_*_all.deb")
    return found


def _checked(*argv: str, cwd: Path | None = None, **settings: str) -> None:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}:\n{done.stdout[-6000:]}")
