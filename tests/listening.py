"""What tests of listeners share: a sink in memory, both event loops, a look at metrics, a polling wait."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from logguardd.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from logguardd.records import Framed, Origin

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

#: Every test with the argument ``run`` runs on both loops.
both_loops = pytest.mark.parametrize("run", list(LOOPS))


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


#: Many containers have none, and nothing can be installed against that.
needs_ipv6 = pytest.mark.skipif(not _ipv6(), reason="no IPv6 loopback here")


def run_on(loop: str, main: Coroutine[Any, Any, None], *, timeout: float = 30.0) -> None:
    """Run a coroutine on a fresh loop; an exception that nobody caught fails the test."""
    uncaught: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
        async with asyncio.timeout(timeout):
            await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())
    assert uncaught == []


async def until(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Let the loop run until the condition is true; fail when it does not become so within the seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.002)


class MemorySink:
    """A sink that keeps what it is given; a test fills it, makes room, and says when frames are durable."""

    def __init__(self, *, durable: bool = True) -> None:
        self.full = False
        self.full_of_datagrams = False
        self.watching = False
        self.seen: list[tuple[Origin, Framed]] = []
        self.puts: list[tuple[Origin, Framed]] = []
        self.number = 0
        self._durable = durable
        self._futures: list[asyncio.Future[None]] = []
        self._waiting: list[Callable[[], None]] = []

    def put(self, origin: Origin, framed: Framed) -> asyncio.Future[None] | None:
        assert framed.number == (framed.frames.count(b"\n") + 1 if framed.number else 0)
        if not framed.number:
            return None
        self.puts.append((origin, framed))
        self.number += framed.number
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        if self._durable:
            self.commit()
        return future

    def see(self, origin: Origin, framed: Framed) -> None:
        self.seen.append((origin, framed))

    def when_room(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)

    def make_room(self, reads: int | None = None) -> None:
        """Be no longer full; call so many of those who wait (all), one for a read that there is room for."""
        self.full = self.full_of_datagrams = False
        waiting, self._waiting = self._waiting[:reads], self._waiting[len(self._waiting[:reads]) :]
        for callback in waiting:
            asyncio.get_running_loop().call_soon(callback)

    def commit(self, error: Exception | None = None) -> None:
        """Say that everything so far is durable, or failed."""
        futures, self._futures = self._futures, []
        for future in futures:
            if error is not None:
                future.set_exception(error)
                future.exception()  # seen
            elif not future.done():
                future.set_result(None)

    @property
    def frames(self) -> list[bytes]:
        return [frame for _, framed in self.puts for frame in framed.frames.split(b"\n")]

    @property
    def origins(self) -> set[Origin]:
        return {origin for origin, _ in self.puts}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a sample of the registry, 0 where there is none yet."""
    return metrics.registry.get_sample_value(name, labels) or 0


class Receiving:
    """A listener between ``async with``, with the sink and metrics that it got."""

    def __init__(self, kind: type, *specs: str, sink: MemorySink | None = None, **more: Any) -> None:
        self.sink = sink or MemorySink()
        self.metrics = Metrics()
        self.listener = kind(specs or ("127.0.0.1:0",), sink=self.sink, metrics=self.metrics, **more)
        self._transport = kind.transport

    async def __aenter__(self) -> Self:
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop()

    @property
    def port(self) -> int:
        return self.listener.address[1]

    def count(self, name: str) -> float:
        """Return a metric of this transport."""
        return value(self.metrics, f"logguardd_{name}", transport=self._transport)

    def dropped(self, reason: str) -> float:
        return value(self.metrics, "logguardd_dropped_total", reason=reason)

    def refused(self, reason: str) -> float:
        return value(self.metrics, "logguardd_connections_refused_total", transport=self._transport, reason=reason)
