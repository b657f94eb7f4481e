"""The fleet of the tests: once with each Debian as the server and the other one as the client.

The tests of a fleet are one story, told in the order of the files: each takes the machines as the last one left them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import debian
from tests.servers.daemon import CHECKOUT
from tests.servers.nspawn import remove_groups_of_the_dead
from tests.servers.process import need, need_root
from tests.system.building import Building
from tests.system.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.nspawn import Guest
    from tests.system.building import Packages

#: Journals and consoles of the guests of the last run.
KEPT = CHECKOUT / "build" / "test-packages"


@pytest.fixture(scope="session")
def debians() -> Iterator[None]:
    """Hold the trees that guests are made of."""
    need_root()
    need("debootstrap", "systemd-nspawn", "ssh", "ip")
    with debian.exclusively():
        remove_groups_of_the_dead()
        yield


@pytest.fixture(scope="session")
def building(debians: None) -> Iterator[Building]:
    """Begin to build the packages, and meanwhile to make the Debians."""
    folder = Path(tempfile.mkdtemp(prefix="logguardd-build-"))
    made = Building(folder)
    try:
        for suite in debian.SUITES:
            debian.tree(suite)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def packages(building: Building) -> Packages:
    """Return the built packages."""
    return building.wait()


@pytest.fixture(scope="session", params=list(debian.SUITES))
def fleet(request: pytest.FixtureRequest, packages: Packages) -> Iterator[Fleet]:
    """Boot a server with Debian ``param`` and a client with the other one."""
    (other,) = set(debian.SUITES) - {request.param}
    # Not below /tmp, which may be in memory: each guest has a gigabyte.
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=debian.cache()))
    made = Fleet(request.param, other, folder, packages)
    request.config.stash[_FLEETS].append(made)
    try:
        made.boot()
        yield made
    finally:
        made.close()
        request.config.stash[_FLEETS].remove(made)
        _keep(made, request.param)
        shutil.rmtree(folder)


@pytest.fixture
def server(fleet: Fleet) -> Guest:
    return fleet.server


@pytest.fixture
def client(fleet: Fleet) -> Guest:
    return fleet.client


_FLEETS = pytest.StashKey[list[Fleet]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FLEETS] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show with a failure what the guests logged last."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for fleet in item.config.stash[_FLEETS]:
            for guest in fleet.guests:
                if guest.running:
                    report.sections.append((f"journal of {guest.name} ({guest.suite})", guest.journal("-n", "40")))


def _keep(fleet: Fleet, suite: str) -> None:
    for guest in fleet.guests:
        for file in ("journal.txt", "console.log"):
            if (guest.folder / file).exists():
                target = KEPT / f"server-on-{suite}" / f"{guest.name}-{guest.suite}-{file}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(guest.folder / file, target)
