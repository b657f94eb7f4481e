"""Who follows the ban feed: every follower gets a snapshot, then each change once, through a queue with a bound."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from logguardd import feed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from logguardd.metrics import Metrics
    from logguardd.records import Ban

_LOG = logging.getLogger(__name__)

#: Seconds between two heartbeats.
HEARTBEAT = 10.0
#: Seconds after which a follower that has gone is noticed.
LOOK = 1.0
#: Bytes of changes that wait for one follower, and seconds that it may take for one write; beyond, it is disconnected.
#: It gets a new snapshot when it comes back, so nothing is lost by that.
MAX_WAITING = 16 << 20
WRITE_TIMEOUT = 10.0
#: Followers at a time: every host of a large fleet. What waits for several is in memory once.
MAX_FOLLOWERS = 1000


class Followers:
    """Spreads changes of the bans in force. Everything is called from the event loop."""

    def __init__(
        self,
        bans: Callable[[], Iterable[Ban]],
        metrics: Metrics,
        *,
        clock: Callable[[], int],
        software: str,
        heartbeat: float = HEARTBEAT,
        max_waiting: int = MAX_WAITING,
        write_timeout: float = WRITE_TIMEOUT,
    ) -> None:
        """``bans`` gives those in force, ``clock`` microseconds, ``software`` is the daemon's name and version."""
        self._bans = bans
        self._metrics = metrics
        self._clock = clock
        self._software = software
        self._heartbeat = heartbeat
        self._max_waiting = max_waiting
        self._write_timeout = write_timeout
        self._queues: set[_Queue] = set()
        self._closed = False

    def __len__(self) -> int:
        """Return how many are connected."""
        return len(self._queues)

    @property
    def local(self) -> int:
        """How many of them are on this host."""
        return sum(not queue.remote for queue in self._queues)

    def publish(self, add: Iterable[Ban], remove: Iterable[feed.Key] = ()) -> None:
        """Send bans that were made or extended and keys of bans that ended early (not those that expired).

        Call it in the same turn of the event loop in which ``bans`` began to show the change.
        """
        if self._queues:
            lines = b"".join(feed.change(add, remove))
            for queue in self._queues:
                queue.put(lines)

    async def follow(
        self, write: Callable[[bytes], Awaitable[None]], gone: Callable[[], bool], *, remote: bool = False
    ) -> None:
        """Feed one follower until it is ``gone`` (or ``write`` raises OSError), is too slow, or ``close`` is called.

        ``remote`` says that it is on another host.
        """
        if len(self._queues) >= MAX_FOLLOWERS or self._closed:
            self._refused("too-many")
            return
        queue = _Queue(self._max_waiting, remote=remote)
        self._queues.add(queue)
        self._metrics.followers.set(len(self._queues))
        # A copy, taken in the same turn as the queue joins: no change is missed, none comes twice.
        bans = list(self._bans())
        try:
            await self._feed(queue, bans, write, gone)
        except TimeoutError:
            self._refused("slow")
        except OSError:
            pass
        finally:
            self._queues.discard(queue)
            self._metrics.followers.set(len(self._queues))

    async def _feed(
        self, queue: _Queue, bans: list[Ban], write: Callable[[bytes], Awaitable[None]], gone: Callable[[], bool]
    ) -> None:
        for lines in (feed.hello(self._clock(), self._software), feed.snapshot(bans)):
            for line in lines:
                await asyncio.wait_for(write(line), self._write_timeout)
        loop = asyncio.get_running_loop()
        beat = loop.time() + self._heartbeat
        while not (self._closed or gone()):
            waiting = await queue.get(max(0.0, min(beat - loop.time(), LOOK)))
            if queue.overflowed:
                raise TimeoutError
            if loop.time() >= beat:
                waiting += b"".join(feed.heartbeat(self._clock()))
                beat += self._heartbeat
            if waiting:
                await asyncio.wait_for(write(waiting), self._write_timeout)

    def _refused(self, reason: str) -> None:
        self._metrics.connections_refused.labels("follow", reason).inc()
        _LOG.warning("a firewall follower was disconnected: %s", reason)

    def close(self) -> None:
        """End all followers' feeds."""
        self._closed = True
        for queue in self._queues:
            queue.wake()


class _Queue:
    """Lines that wait for one follower."""

    def __init__(self, bound: int, *, remote: bool) -> None:
        self.remote = remote
        self._bound = bound
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self.overflowed = False

    def put(self, lines: bytes) -> None:
        self._size += len(lines)
        if self._size > self._bound:
            self.overflowed = True
            self._lines.clear()
        else:
            self._lines.append(lines)
        self._news.set()

    async def get(self, timeout: float) -> bytes:  # noqa: ASYNC109 - part of its meaning
        """Return everything that waits, after at most ``timeout`` seconds, b"" if nothing came."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout)
        self._news.clear()
        lines = b"".join(self._lines)
        self._lines.clear()
        self._size = 0
        return lines

    def wake(self) -> None:
        self._news.set()
