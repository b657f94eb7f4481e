"""A circuit breaker between Redis and memory: an outage costs one wait, not one for every batch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from logguardd.errors import UnavailableError
from logguardd.records import SECOND, Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.limiter import Limiter
    from logguardd.metrics import Metrics

_LOG = logging.getLogger(__name__)

#: Seconds between probes: first, and at most.
_PROBES = (1.0, 10.0)
#: Keys to forget that are remembered while the primary is away.
_FORGET = 10_000


class Breaker:
    """Implements Limiter: counts with ``primary``, and with ``fallback`` while that is away.

    Closed, it counts with the primary; a batch that fails there is counted with the fallback and opens it (a connection
    that was cut has been tried a second time by then, so that Redis is away, hangs or refuses). Open, it leaves the
    primary alone and tries it in the background, half-open, after 1 s and then less often, up to every 10 s, with a
    mark that is really written: a read-only or full Redis answers a PING too.
    """

    def __init__(
        self,
        primary: Limiter,
        fallback: Limiter,
        metrics: Metrics | None = None,
        *,
        probes: tuple[float, float] = _PROBES,
    ) -> None:
        """``probes``: seconds between two of them, first and at most."""
        self._probes = probes
        self._primary = primary
        self._fallback = fallback
        self._metrics = metrics
        self._state = "closed"
        self._opened_at = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._to_forget: dict[str, None] = {}
        #: None while the primary works, else what it said last.
        self.trouble: str | None = None
        if metrics is not None:
            metrics.breaker_open.set(0)

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half-open"."""
        return self._state

    async def count(self, tallies: Sequence[Tally]) -> list[Verdict]:
        """Count with the primary if it is there, else with the fallback; never raises errors.UnavailableError for it."""
        if self._state == "closed":
            try:
                return await self._primary.count(tallies)
            except UnavailableError as error:
                self._failed(error)
        return await self._fallback.count(tallies)

    async def hits(self, tallies: Sequence[Tally], now: int) -> list[int]:
        """Return how many hits each key has in the window that ends at ``now``, where hits are counted now."""
        if self._state == "closed":
            try:
                return await self._primary.hits(tallies, now)
            except UnavailableError as error:
                self._failed(error)
        return await self._fallback.hits(tallies, now)

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop what is counted under the keys; in the primary as soon as it is there."""
        await self._fallback.forget(keys)
        self._to_forget.update(dict.fromkeys(keys))
        while len(self._to_forget) > _FORGET:
            del self._to_forget[next(iter(self._to_forget))]
        if self._state == "closed":
            try:
                await self._catch_up()
            except UnavailableError as error:
                self._failed(error)

    async def _catch_up(self) -> None:
        keys = list(self._to_forget)
        if keys:
            await self._primary.forget(keys)
            for key in keys:
                self._to_forget.pop(key, None)

    def _failed(self, error: UnavailableError) -> None:
        self.trouble = str(error)
        if self._metrics is not None:
            self._metrics.limiter_failures.inc()
        if self._state == "closed":
            self._state = "open"
            self._opened_at = time.monotonic()
            if self._metrics is not None:
                self._metrics.breaker_open.set(1)
            _LOG.warning("limiter: %s; hits are counted in memory until it is back", error)
            self._probing = asyncio.create_task(self._probe(), name="limiter-probe")

    async def _probe(self) -> None:
        pause, most = self._probes
        while self._state != "closed":
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)
            self._state = "half-open"
            try:
                await self._primary.count([Tally("logguardd:probe", SECOND, 1, [(time.time_ns() // 1000, "probe")])])
                await self._catch_up()
            except UnavailableError as error:
                self._state = "open"
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - a probe that dies would leave the breaker open for ever
                self._state = "open"
                self.trouble = repr(error)
            else:
                self._close()

    def _close(self) -> None:
        self._state = "closed"
        self.trouble = None
        if self._metrics is not None:
            self._metrics.breaker_open.set(0)
        _LOG.info("limiter: Redis is back after %.0f s", time.monotonic() - self._opened_at)

    async def close(self) -> None:
        """Stop probing and close both limiters."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._primary.close()
        await self._fallback.close()
