"""Daemons that share their bans: what the tests of that need."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

from logguardd.limiter.shared_bans import SharedBans
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Ban

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers.redis import Redis

ADDRESS = "203.0.113.5"


def now() -> int:
    return time.time_ns() // 1000


def ban(network: str = ADDRESS, port: int = 0, seconds: float | None = 600, **changes) -> Ban:
    since = changes.pop("since", now())
    until = None if seconds is None else since + int(seconds * SECOND)
    return Ban(ip_network(network), port, changes.pop("jail", "auth"), since, until, "6 hits", **changes)


class Daemon:
    """One daemon's exchange, and what it was told, as a book would hold it."""

    def __init__(self, url: str, **options: float) -> None:
        self.metrics = Metrics()
        self.exchange = SharedBans(url, self.metrics, **options)
        self.bans: dict[tuple[object, int], Ban] = {}
        self.told: list[Ban] = []
        self.lifted: list[Ban] = []

    def on_change(self, add: list[Ban], remove: list[Ban]) -> None:
        self.told += add
        self.lifted += remove
        self.bans |= {one.key: one for one in add}
        for one in remove:
            self.bans.pop(one.key, None)

    def make(self, *bans: Ban) -> None:
        """Ban, as the detector does."""
        self.bans |= {one.key: one for one in bans}
        self.exchange.publish(bans)

    def lift(self, *bans: Ban) -> None:
        """Unban, as an operator does."""
        for one in bans:
            self.bans.pop(one.key, None)
        self.exchange.publish([], bans)

    def ignored(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("logguardd_shared_bans_ignored_total", {"reason": reason}) or 0


async def until(condition: Callable[[], object], within: float = 15) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def daemons(server: Redis, number: int = 2, **options: float) -> AsyncIterator[list[Daemon]]:
    async with AsyncExitStack() as stack:
        made = [Daemon(server.url, **options) for _ in range(number)]
        for daemon in made:
            stack.push_async_callback(daemon.exchange.stop)
            await daemon.exchange.start(daemon.on_change)
        yield made
