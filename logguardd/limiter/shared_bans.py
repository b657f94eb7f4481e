"""Bans that several daemons on one Redis see of one another.

Redis holds every ban in force, when each ends, what was unbanned, and a stream of changes (ban_store.py). A daemon
follows the stream, and compares everything when it connects and every minute. With Redis away bans stay local; what was
made or lifted meanwhile is published afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING

from logguardd.errors import UnavailableError
from logguardd.limiter.ban_store import MAX_BANS, MAX_UNBANS, PAGE, BanStore
from logguardd.limiter.ban_text import decode, key_of, name_of
from logguardd.records import Ban

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from logguardd.metrics import Metrics

_LOG = logging.getLogger(__name__)

#: Seconds between two comparisons of everything, and between tries while Redis is away: first, and at most.
COMPARE, RETRY_FIRST, RETRY_LAST = 60.0, 0.5, 10.0
# Bans and unbans in one call to Redis; seconds for what is left to publish in the end.
_WRITE, _LAST_WORDS = 100, 1.0
# Seconds between two log lines about entries that are not sound.
_COMPLAIN = 60.0


def _clock() -> int:
    return time.time_ns() // 1000


class SharedBans:
    """Publishes this daemon's bans, and tells the daemon of the others' through a callback.

    What it tells must not be published again. The daemon applies its own allowlist to what it is told: the others may
    have another one.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics | None = None,
        *,
        clock: Callable[[], int] = _clock,
        compare: float = COMPARE,
    ) -> None:
        """``url`` as for RedisLimiter, ``clock`` gives microseconds; raise errors.ConfigError for a wrong URL."""
        self._store = BanStore(url, self._ignore)
        self._metrics = metrics
        self._clock = clock
        self._compare_every = compare
        self._id = secrets.token_hex(8)
        self._on_change: Callable[[list[Ban], list[Ban]], None] = lambda _add, _remove: None
        self._tasks: list[asyncio.Task[None]] = []
        self._work = asyncio.Event()
        # This daemon's bans by name; which of them, and which unbans, Redis has yet to hear of.
        self._own: dict[str, Ban] = {}
        self._to_add: dict[str, Ban] = {}
        self._to_remove: dict[str, int] = {}
        # What Redis held when last seen: when each ban ends, when each unban was.
        self._ends: dict[str, float] = {}
        self._unbanned: dict[str, float] = {}
        self._troubles: dict[str, str] = {}
        self._complained_at = -_COMPLAIN

    @property
    def trouble(self) -> str | None:
        """Return None while bans are shared, else why they are not."""
        return next(iter(self._troubles.values()), None)

    async def start(self, on_change: Callable[[list[Ban], list[Ban]], None]) -> None:
        """Begin to share; publish the bans that were loaded before this, or what was unbanned meanwhile ends them.

        ``on_change(add, remove)`` is called from the event loop, with others' bans and unbans only. Of a ban in
        ``remove`` only network and port mean something, and ``until``: when it was lifted; what was banned here after
        that stays. The same may be told more than once.
        """
        self._on_change = on_change
        self._tasks = [
            asyncio.create_task(self._for_ever("reading", self._follow), name="shared-bans-read"),
            asyncio.create_task(self._for_ever("writing", self._write), name="shared-bans-write"),
        ]

    def publish(self, add: Iterable[Ban], remove: Iterable[Ban] = ()) -> None:
        """Tell the others of bans made (or loaded, or extended) here, and of bans lifted here; never waits or fails.

        A ban that takes the place of one that would have ended later comes with that one in ``remove``.
        """
        now = self._clock()
        for ban in remove:
            name = name_of(ban.network, ban.port)
            self._own.pop(name, None)
            self._to_add.pop(name, None)
            self._to_remove[name] = now
        for ban in add:
            name = name_of(ban.network, ban.port)
            if name in self._own or len(self._own) < MAX_BANS:
                self._own[name] = self._to_add[name] = ban
            if name in self._to_remove:
                self._to_remove[name] = min(self._to_remove[name], ban.since - 1)
        while len(self._to_remove) > MAX_UNBANS:
            del self._to_remove[next(iter(self._to_remove))]
        self._work.set()

    async def stop(self) -> None:
        """Publish what is left, if Redis is there, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks and not self._troubles:
            with contextlib.suppress(UnavailableError, TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._flush()
        await self._store.close()

    async def _for_ever(self, what: str, work: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Run ``work``, and again after a pause whenever it fails; it calls what it is given whenever it succeeds."""
        pause = RETRY_FIRST

        def succeeded() -> None:
            nonlocal pause
            pause = RETRY_FIRST
            if self._troubles.pop(what, None) is not None and not self._troubles:
                _LOG.info("shared bans: Redis is back")

        while True:
            try:
                await work(succeeded)
            except UnavailableError as error:
                if not self._troubles:
                    _LOG.warning("shared bans: %s; bans are not shared until it is back", error)
                self._troubles[what] = str(error)
            except Exception:  # noqa: BLE001 - the daemon does its work without this; it must not end it
                _LOG.exception("shared bans: %s failed", what)
                self._troubles[what] = "internal error"
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_LAST)

    async def _write(self, succeeded: Callable[[], None]) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._flush()
            except BaseException:
                self._work.set()
                raise
            succeeded()

    async def _flush(self) -> None:
        """Send what Redis has yet to hear of."""
        while self._to_add or self._to_remove:
            now = self._clock()
            add = dict(list(self._to_add.items())[:_WRITE])
            remove = dict(list(self._to_remove.items())[:_WRITE])
            sent = {name: ban for name, ban in add.items() if ban.active(now)}
            written = await self._store.write(sent, remove, now, self._id)
            for name, ban in add.items():
                if self._to_add.get(name) is ban:
                    del self._to_add[name]
            for name, at in remove.items():
                if self._to_remove.get(name) == at:
                    del self._to_remove[name]
            if written.full:
                self._ignore("full", f"more than {MAX_BANS} bans: not all are shared", written.full)
            self._lifted([(name, sent[name].since) for name in written.refused if name in sent])

    async def _follow(self, succeeded: Callable[[], None]) -> None:
        """Compare everything, then follow the changes, and compare again every minute."""
        while True:
            # What changes while everything is compared comes again as a change.
            last = await self._store.newest()
            await self._compare()
            succeeded()
            again = asyncio.get_running_loop().time() + self._compare_every
            while asyncio.get_running_loop().time() < again:
                for entry in await self._store.changes(last):
                    last = entry.id
                    if entry.by != self._id:
                        self._lifted(entry.remove)
                        await self._take_over(entry.add)

    async def _compare(self) -> None:
        """Take over what Redis holds and is not known; have published what it should hold and does not."""
        now = self._clock()
        self._own = {name: ban for name, ban in self._own.items() if ban.active(now)}
        unbanned = dict(await self._store.unbanned())
        self._lifted([(name, at) for name, at in unbanned.items() if self._unbanned.get(name, -1.0) < at])
        self._unbanned = unbanned
        ends: dict[str, float] = {}
        async for page in self._store.ends():
            ends.update(page)
            await self._take_over([name for name, end in page if end > now and self._ends.get(name) != end])
        self._ends = ends
        missing = {name: ban for name, ban in self._own.items() if ends.get(name, -1.0) < _end(ban)}
        if missing:
            self._to_add = missing | self._to_add
            self._work.set()

    async def _take_over(self, names: list[str]) -> None:
        """Fetch bans by name and tell the daemon of those that are others' and not lifted here."""
        now = self._clock()
        for start in range(0, len(names), PAGE):
            some = names[start : start + PAGE]
            bans = []
            for name, text in zip(some, await self._store.fetch(some), strict=True):
                if text is None:
                    continue
                try:
                    ban = decode(name, text, now)
                except ValueError as error:
                    self._ignore("ban", f"ban {name} in Redis: {error}")
                    continue
                own = self._own.get(name)
                lifted = self._to_remove.get(name, -1)
                if ban.active(now) and ban.since > lifted and (own is None or _end(own) < _end(ban)):
                    bans.append(ban)
            if bans:
                self._tell(bans, [])

    def _lifted(self, names: Iterable[tuple[str, float]]) -> None:
        """Tell the daemon what was unbanned, unless it has been banned again here since."""
        bans = []
        for name, at in names:
            own = self._own.get(name)
            if own is None or own.since <= at:
                self._own.pop(name, None)
                self._to_add.pop(name, None)
                network, port = key_of(name)
                bans.append(Ban(network, port, "", int(at), int(at), "unbanned by another daemon"))
        if bans:
            self._tell([], bans)

    def _tell(self, add: list[Ban], remove: list[Ban]) -> None:
        try:
            self._on_change(add, remove)
        except Exception:  # noqa: BLE001 - the same
            _LOG.exception("shared bans: %d bans and %d unbans of others were not taken over", len(add), len(remove))

    def _ignore(self, reason: str, what: str, number: int = 1) -> None:
        if self._metrics is not None:
            self._metrics.shared_bans_ignored.labels(reason).inc(number)
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN:
            self._complained_at = now
            _LOG.warning("shared bans: ignored %s", what)


def _end(ban: Ban) -> float:
    return float("inf") if ban.until is None else ban.until
