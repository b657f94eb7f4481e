"""One engine for all tests, with the image built once as the documentation says."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers import debian
from tests.servers.daemon import CHECKOUT
from tests.system.containers.engine import Engine
from tests.system.containers.images import make_slim

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Start an engine that has debian:12-slim."""
    with debian.exclusively():
        # Not below /tmp, which may be in memory.
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=debian.cache()))
        made = None
        try:
            made = Engine(folder)
            make_slim(made, "bookworm", folder / "bookworm")
            yield made
        finally:
            if made is not None:
                made.close()
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout as somebody has it who keeps files to himself."""
    return copy(tmp_path_factory.mktemp("checkout"), 0o700)


@pytest.fixture(scope="session")
def shared_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout as most people have it."""
    return copy(tmp_path_factory.mktemp("checkout"), 0o755)


def copy(folder: Path, mode: int) -> Path:
    """Copy what git knows of this checkout, permissions bounded by ``mode``."""
    listed = debian.checked(["git", "-c", "safe.directory=*", "-C", str(CHECKOUT), "ls-files"]).split("\n")
    for name in filter(None, listed):
        if (CHECKOUT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target)
            target.chmod((target.stat().st_mode | 0o444) & mode)
    for above in (folder, *folder.parents):
        if above.stat().st_uid == os.getuid() and mode & 0o001 and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    return folder


@pytest.fixture(scope="session")
def image(engine: Engine, checkout: Path) -> str:
    """Build the image; return its name."""
    engine.build("logguardd", "-f", str(checkout / "packaging/docker/Dockerfile"), str(checkout))
    return "logguardd"
