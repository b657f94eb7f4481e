"""Follow a ban feed and keep a firewall in step with it.

Without its source a follower changes nothing: bans stay in the kernel and end there by themselves. It bans only what
the feed says, less what its guard refuses. A feed that is not valid is left and followed anew, a firewall that
refused a change is brought in step as a whole.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from logguardd.errors import FeedError, FirewallError, LogguarddError, UnavailableError
from logguardd.feed import Decoder, Heartbeat, Hello
from logguardd.firewall.mirror import Mirror
from logguardd.network import default_gateways, own_addresses
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.feed import Event
    from logguardd.firewall import Firewall
    from logguardd.firewall.guard import Guard
    from logguardd.firewall.sources import Source

_log = logging.getLogger(__name__)

#: Without an event for so many seconds (heartbeats come every 10) the source is given up and connected to anew.
SILENCE = 30.0
#: The most changes told to the kernel at once, and the seconds between two times; the first is told at once.
BATCH = 1000
_BETWEEN = 0.02
_TICK = 1.0
_CHECK = 10.0
_BACKOFF = (0.2, 10.0)
# Clocks of one machine differ by no more than the time a line is under way.
_SAME_CLOCK = 2 * SECOND


class Follower:
    """Follows ``source`` and changes ``firewall``; ``clock`` gives microseconds since the epoch, ``report`` takes status lines."""

    def __init__(
        self,
        source: Source,
        firewall: Firewall,
        guard: Guard,
        clock: Callable[[], int],
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._source = source
        self._firewall = firewall
        self._guard = guard
        self._clock = clock
        self._report = report
        self._mirror = Mirror(guard)
        # Whether the firewall has everything that we make there.
        self._made = False
        self._skew = 0
        self._wake = asyncio.Event()
        self._stopped = asyncio.Event()
        self._source_fails = False
        self._next_tick = self._next_check = 0.0

    def stop(self) -> None:
        """Let ``run`` return once the command that is running has ended; bans stay in the kernel."""
        self._stopped.set()
        self._wake.set()

    async def run(self) -> None:
        """Follow until ``stop``."""
        self._protect()
        reading = asyncio.create_task(self._read())
        try:
            await self._enforce()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def once(self) -> None:
        """Bring the firewall in step with one snapshot and return.

        Raises errors.UnavailableError, FeedError or FirewallError.
        """
        self._protect()
        await self._follow(until_complete=True)
        await self._change()

    def _now(self) -> int:
        return self._clock() + self._skew

    async def _read(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._follow()
                raise UnavailableError(f"{self._source}: the daemon ended the feed")  # noqa: TRY301 - as any other failure
            except (UnavailableError, FeedError) as error:
                self._lost(error)
            except Exception:  # noqa: BLE001 - a bug must not end what keeps attackers out
                _log.exception("following %s", self._source)
            self._source_fails = True
            failures = failures + 1 if loop.time() < started + _BACKOFF[1] else 1
            await asyncio.sleep(_backoff(failures))

    def _lost(self, error: LogguarddError) -> None:
        level = logging.DEBUG if self._source_fails else logging.WARNING
        _log.log(level, "%s; bans stay in force and end by themselves, trying again", error)
        self._report(f"waiting for {self._source}, {len(self._mirror)} bans")

    async def _follow(self, *, until_complete: bool = False) -> None:
        """Follow one connection to its end, or to the end of the first snapshot."""
        decoder = Decoder()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SILENCE) as silence, self._source.open() as chunks:
                async for chunk in chunks:
                    events = decoder.feed(chunk)
                    if events:
                        silence.reschedule(loop.time() + SILENCE)
                    for event in events:
                        self._take(event)
                    if until_complete and self._mirror.complete:
                        return
        except TimeoutError:
            raise UnavailableError(f"{self._source}: silent for {SILENCE:.0f} s") from None
        except FeedError as error:
            raise FeedError(f"{self._source}: {error}") from None
        if until_complete:
            raise UnavailableError(f"{self._source}: ended before the snapshot did")

    def _take(self, event: Event) -> None:
        if isinstance(event, Hello | Heartbeat):
            skew = event.now - self._clock()
            self._skew = skew if abs(skew) > _SAME_CLOCK else 0
        if isinstance(event, Hello):
            _log.info("following %s (%s)", self._source, event.software)
            self._protect()
        self._mirror.take(event)
        if self._mirror.complete:
            self._source_fails = False
        if self._mirror.due:
            self._wake.set()

    async def _enforce(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(_TICK):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            started = loop.time()
            pause = _BETWEEN
            try:
                await self._round(started)
                failures = 0
            except FirewallError as error:
                _log.error("%s; trying again with all bans", error)
                failures += 1
            except Exception:  # noqa: BLE001 - a bug must not end what keeps attackers out
                _log.exception("changing the firewall")
                failures += 1
            if failures:
                self._mirror.spoil()
                pause = _backoff(failures)
                self._report("the firewall refuses changes, see the log")
            if self._mirror.due:
                self._wake.set()
            await self._rest(started + pause - loop.time())

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    async def _round(self, at: float) -> None:
        if at >= self._next_check:
            self._next_check = at + _CHECK
            self._protect()
            self._mirror.forget(self._now())
            if self._made and not await self._firewall.intact(self._now()):
                _log.warning("the firewall's sets or rules are not as they were left; putting them right")
                self._mirror.spoil()
        if self._mirror.due:
            await self._change()
        if at >= self._next_tick and self._mirror.complete:
            self._next_tick = at + _TICK
            await self._firewall.tick(self._now())

    async def _change(self) -> None:
        now = self._now()
        work = self._mirror.work(now, BATCH)
        if work.everything:
            await self._firewall.sync(work.add, now)
            self._made = True
            _log.info("in step with %s: %d bans", self._source, len(work.add))
        else:
            await self._firewall.apply(work.add, work.remove, now)
            _log.info("added %d, removed %d, in force %d", len(work.add), len(work.remove), len(self._mirror))
        self._report(f"following {self._source}, {len(self._mirror)} bans")

    def _protect(self) -> None:
        try:
            changed = self._guard.protect(own_addresses(), default_gateways(), self._source.peers)
        except OSError as error:
            _log.warning("cannot ask for this host's own addresses: %s", error.strerror)
            return
        if changed:
            self._mirror.recheck()


def _backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, between half and all of it."""
    shortest, longest = _BACKOFF
    return min(longest, shortest * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
