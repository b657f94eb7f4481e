"""Fixtures: private servers, one of each a session. A test that stops one finds it started again by the next."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.daemon import Daemon
from tests.servers.netns import Netns
from tests.servers.postgres import PostgreSQL
from tests.servers.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How long an example takes says how busy the machine is, not whether it is right.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through all tests and modules again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _postgres_cluster() -> Iterator[PostgreSQL]:
    # The tests crash servers, not the machine: nothing has to reach the disk.
    cluster = PostgreSQL(fsync="off")
    yield cluster
    cluster.close()


@pytest.fixture
def postgres(_postgres_cluster: PostgreSQL) -> PostgreSQL:
    """A running PostgreSQL; use fresh_database() for a URL."""
    if not _postgres_cluster.running:
        _postgres_cluster.start()
    return _postgres_cluster


@pytest.fixture(scope="session")
def _redis_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    instance = Redis(tmp_path_factory.mktemp("redis"))
    yield instance
    instance.stop()


@pytest.fixture
def redis_server(_redis_instance: Redis) -> Redis:
    """A running, empty Redis."""
    if not _redis_instance.running:
        _redis_instance.start()
    _redis_instance.flush()
    return _redis_instance


@pytest.fixture
def make_netns() -> Iterator[Callable[[], Netns]]:
    """A maker of network namespaces, deleted after the test."""
    made: list[Netns] = []

    def make() -> Netns:
        made.append(Netns())
        return made[-1]

    yield make
    for space in made:
        space.delete()


@pytest.fixture
def netns(make_netns: Callable[[], Netns]) -> Netns:
    """One network namespace."""
    return make_netns()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """A maker of daemons (see Daemon for its arguments without the folder), ended after the test."""
    made: list[Daemon] = []

    def make(config: str = "", *, name: str = "daemon", **options: Any) -> Daemon:
        made.append(Daemon(tmp_path / name, config, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
