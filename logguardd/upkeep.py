"""What has to be done from time to time: expiry, retention, gauges, copies."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from logguardd import saved_bans
from logguardd.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from logguardd.archive import Archive
    from logguardd.book import BanBook
    from logguardd.enforcer import Enforcer
    from logguardd.journal import Journal
    from logguardd.metrics import Metrics
    from logguardd.web.operations import Operations

_LOG = logging.getLogger(__name__)

#: Seconds between two rounds, and how many rounds lie between two of the rarer jobs.
ROUND = 0.5
_AGES, _SAVE, _PRUNE, _PROTECT, _MAINTAIN = 2, 4, 20, 120, 1200
#: The round in which the archive is maintained first (a daemon may be started daily), and the rounds until another try.
_FIRST, _AGAIN = 4, 20


class Upkeep:
    """Runs every job in its turn; a job that fails is tried again in its next turn."""

    def __init__(
        self,
        *,
        journal: Journal,
        archive: Archive,
        enforcer: Enforcer,
        book: BanBook,
        operations: Operations,
        metrics: Metrics,
        clock: Callable[[], int],
        saved: Path,
        protect: Callable[[], Awaitable[None]],
    ) -> None:
        """Take the parts; ``saved`` is the file for the bans in force, ``protect`` asks again who is never banned."""
        self._journal = journal
        self._archive = archive
        self._enforcer = enforcer
        self._book = book
        self._operations = operations
        self._metrics = metrics
        self._clock = clock
        self._saved = saved
        self._protect = protect
        self._saved_version = 0
        self._maintain_in = _FIRST

    async def run(self) -> None:
        """Do the jobs until cancelled."""
        number = 0
        slow: asyncio.Task[None] | None = None
        try:
            while True:
                self._enforcer.expire()
                self._operations.measure()
                # The slow ones run beside, so that a server that hangs does not keep bans from expiring.
                if slow is None or slow.done():
                    number += 1
                    slow = asyncio.create_task(self._slow(number))
                await asyncio.sleep(ROUND)
        finally:
            if slow is not None:
                slow.cancel()
            await self.save()

    async def _slow(self, number: int) -> None:
        try:
            if number % _AGES == 0:
                await self._operations.measure_age()
            if number % _SAVE == 0:
                await self.save()
            if number % _PRUNE == 0:
                self._metrics.journal_pruned.inc(await self._journal.prune(self._clock()))
            if number % _PROTECT == 0:
                await self._protect()
            if number >= self._maintain_in:
                self._maintain_in = number + _AGAIN
                days = await self._archive.maintain(self._clock())
                self._maintain_in = number + _MAINTAIN
                if days:
                    _LOG.info("archive: %d days were older than its retention and are gone", days)
        except (UnavailableError, ConfigError) as error:
            _LOG.debug("upkeep: %s", error)
        except Exception:  # noqa: BLE001 - a bug in one job must not end the others
            _LOG.exception("upkeep")

    async def save(self) -> None:
        """Write the bans in force, and those lifted, beside the journal if they have changed."""
        version = self._enforcer.version
        if version == self._saved_version:
            return
        try:
            bans, lifted = self._book.snapshot(), self._enforcer.lifted()
            await asyncio.to_thread(saved_bans.save, self._saved, bans, lifted, self._clock())
        except OSError as error:
            _LOG.warning("%s: the bans in force could not be saved: %s", self._saved, error.strerror)
        else:
            self._saved_version = version
