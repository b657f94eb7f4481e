"""The two consumers of the journal: loops that read, parse, and hand on; each with an offset of its own.

The archive consumer stores messages, the detector consumer acts on them. They know nothing of each other; what one has
parsed the other finds in the reader's cache when it comes by soon enough.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from logguardd import parsing
from logguardd.archive.rows import rows as build_rows
from logguardd.errors import ConfigError, UnavailableError
from logguardd.records import SECOND, Batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import tzinfo

    from logguardd.archive import Archive
    from logguardd.archive.rows import Row
    from logguardd.journal import Journal
    from logguardd.metrics import Metrics
    from logguardd.records import Match, Record
    from logguardd.rules import RuleSet

_LOG = logging.getLogger(__name__)

#: Bytes of frames read from the journal at a time, and messages about that are parsed at once: tiny ones take a hundred
#: times their bytes in memory.
READ_BYTES, READ_MESSAGES = 512 * 1024, 10_000
#: Messages parsed before the event loop gets a turn: some 5 ms.
SLICE = 1_000
#: Bytes of frames whose parsed form is kept for the other consumer, and what a message weighs beside its frame.
CACHED, MESSAGE = 16 * 1024 * 1024, 400
#: Seconds that a small archive transaction waits for company, and from how many rows on it does not.
LINGER, ENOUGH = 0.05, 2_000
#: Seconds between two tries while a server is away: first, and at most.
RETRY_FIRST, RETRY_LAST = 0.1, 5.0
#: Seconds without messages after which the archive is asked whether it is still there.
PROBE = 5.0
#: The consumers' names in the journal and in metrics.
ARCHIVE, DETECTOR = "archive", "detector"


class Parsed(NamedTuple):
    """A batch (or a slice of one) with one record and one match, or None, for each of its frames."""

    batch: Batch
    records: list[Record]
    matches: list[Match | None]


def slices(batch: Batch, start: int, size: int) -> list[Batch]:
    """Cut the batch into batches of at most ``size`` frames, leaving out those before position ``start``."""
    skip = max(0, start - batch.offset)
    if not skip and batch.count <= size:
        return [batch]
    frames = batch.frames.split(b"\n")
    return [
        Batch(batch.offset + at, batch.received_at, batch.origin, b"\n".join(part), len(part))
        for at in range(skip, batch.count, size)
        if (part := frames[at : at + size])
    ]


class Reader:
    """Journal to parsed batches, for both consumers."""

    def __init__(self, journal: Journal, rules: RuleSet, *, timezone: tzinfo, max_clock_skew: int) -> None:
        """``timezone`` is for stamps that carry none, ``max_clock_skew`` in microseconds."""
        self._journal = journal
        self._rules = rules
        self._timezone = timezone
        self._max_clock_skew = max_clock_skew
        self._cache: OrderedDict[tuple[int, int], Parsed] = OrderedDict()
        self._cached = 0

    def use(self, rules: RuleSet) -> None:
        """Match with these rules from now on."""
        self._rules = rules
        self._cache.clear()
        self._cached = 0

    async def read(self, offset: int) -> list[Parsed]:
        """Return what the journal holds from ``offset`` on, some READ_BYTES of it; empty when there is nothing yet.

        Of very small messages it is some READ_MESSAGES.
        """
        parsed: list[Parsed] = []
        since_turn = number = 0
        for batch in await self._journal.read(offset, READ_BYTES):
            for part in slices(batch, offset, SLICE):
                known = self._cache.get((part.offset, part.count))
                if known is None:
                    known = self._parse(part)
                    since_turn += part.count
                parsed.append(known)
                number += part.count
                if number >= READ_MESSAGES:
                    return parsed
                if since_turn >= SLICE:
                    since_turn = 0
                    await asyncio.sleep(0)
        return parsed

    async def parse(self, batch: Batch) -> list[Parsed]:
        """Return a batch that is not in the journal yet, in slices."""
        parsed = []
        for part in slices(batch, batch.offset, SLICE):
            parsed.append(self._parsed(part))
            await asyncio.sleep(0)
        return parsed

    def _parsed(self, batch: Batch) -> Parsed:
        records = parsing.parse(batch, timezone=self._timezone, max_clock_skew=self._max_clock_skew)
        return Parsed(batch, records, self._rules.match(records))

    def _parse(self, batch: Batch) -> Parsed:
        parsed = self._parsed(batch)
        self._cache[batch.offset, batch.count] = parsed
        self._cached += _weight(batch)
        while self._cached > CACHED:
            _, old = self._cache.popitem(last=False)
            self._cached -= _weight(old.batch)
        return parsed


def _weight(batch: Batch) -> int:
    return len(batch.frames) + MESSAGE * batch.count


class ArchiveConsumer:
    """Stores every message, once, with its own pace: a server that is away only makes it lag."""

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        archive: Archive,
        metrics: Metrics,
        *,
        clock: Callable[[], int],
        on_connected: Callable[[], Awaitable[None]],
    ) -> None:
        """``on_connected`` is awaited after every (re)connection; ``clock`` gives microseconds."""
        self._journal = journal
        self._reader = reader
        self._archive = archive
        self._metrics = metrics
        self._clock = clock
        self._on_connected = on_connected
        self.offset = 0
        #: None while the archive works, else the last error's text.
        self.trouble: str | None = "not connected yet"
        self._begun = False
        # Since when the archive owes an answer, in microseconds; None when it does not.
        self._asked: int | None = None

    @property
    def overdue(self) -> int:
        """Return the microseconds that the archive has owed an answer, 0 when it owes none."""
        return 0 if self._asked is None else max(self._clock() - self._asked, 0)

    def connected(self) -> None:
        """Note that the archive could be reached, before ``run``."""
        self.trouble = None

    async def run(self) -> None:
        """Consume until cancelled."""
        pause = RETRY_FIRST
        while True:
            before = self.offset
            try:
                await self._consume()
            except (UnavailableError, ConfigError) as error:
                if self.trouble is None or str(error) != self.trouble:
                    _LOG.warning(
                        "archive: %s; messages stay in the journal until it is back",
                        str(error).removeprefix("archive: "),
                    )
                self.trouble = str(error)
                self._metrics.archive_failures.inc()
            pause = RETRY_FIRST if self.offset != before else min(pause * 2, RETRY_LAST)
            await asyncio.sleep(pause)

    async def _consume(self) -> None:
        await self._archive.open()
        await self._on_connected()
        self.offset = await self._begin()
        if self.trouble is not None or not self._begun:
            _LOG.info("archive: connected, going on at journal position %d of %d", self.offset, self._journal.head)
        self.trouble, self._begun = None, True
        reading = self.offset
        writing: asyncio.Task[None] | None = None
        try:
            while True:
                parsed = await self._reader.read(reading)
                if not parsed:
                    if writing is not None:
                        await writing
                        writing = None
                        continue
                    await self._idle(reading)
                    continue
                rows = await self._rows(parsed)
                # The next rows are made while PostgreSQL works on these.
                if writing is not None:
                    await writing
                reading = parsed[-1].batch.offset + parsed[-1].batch.count
                writing = asyncio.create_task(self._store(rows, parsed, reading))
                if len(rows) < ENOUGH:
                    await asyncio.sleep(LINGER)
        finally:
            if writing is not None and not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    async def _idle(self, offset: int) -> None:
        """Wait for messages from ``offset`` on; ask the archive meanwhile whether it is still there, and raise if not."""
        try:
            async with asyncio.timeout(PROBE):
                await self._journal.wait(offset)
        except TimeoutError:
            await self._answered(self._archive.offset(self._journal.id))

    async def _answered(self, question: Awaitable[object]) -> None:
        self._asked = self._clock()
        try:
            await question
        finally:
            self._asked = None

    async def _begin(self) -> int:
        """Return where to go on; say so when the journal no longer holds what the archive still lacks."""
        stored = await self._archive.offset(self._journal.id)
        if stored > self._journal.head:
            _LOG.error(
                "journal: it ends at %d but %d is stored already; is it an old copy?", self._journal.head, stored
            )
            await self._journal.advance(stored)
        oldest = self._journal.oldest
        if stored and stored < oldest:
            self._metrics.dropped.labels("journal-pruned").inc(oldest - stored)
            _LOG.error("archive: %d messages left the journal before they were stored", oldest - stored)
        return max(stored, oldest)

    async def _rows(self, parsed: list[Parsed]) -> list[Row]:
        rows: list[Row] = []
        for batch, records, matches in parsed:
            rows += build_rows(batch, records, matches)
            if len(parsed) > 1:
                await asyncio.sleep(0)
        return rows

    async def _store(self, rows: list[Row], parsed: list[Parsed], offset: int) -> None:
        await self._answered(self._archive.write(rows, self._journal.id, offset))
        self.offset = offset
        metrics = self._metrics
        metrics.copy_batches.inc()
        metrics.archive_rows.inc(len(rows))
        metrics.parse_errors.inc(sum(record.parse_error is not None for _, records, _ in parsed for record in records))
        now = self._clock()
        for batch, _, _ in parsed:
            metrics.archive_seconds.observe((now - batch.received_at) / SECOND)
        await self._journal.commit(ARCHIVE, offset)


class DetectorConsumer:
    """Gives every parsed batch to ``judge``, which counts hits and bans; commits the offset after that."""

    def __init__(self, journal: Journal, reader: Reader, judge: Callable[[list[Parsed]], Awaitable[None]]) -> None:
        """``judge`` must not raise UnavailableError: its limiter falls back to memory."""
        self._journal = journal
        self._reader = reader
        self._judge = judge
        self.offset = 0
        #: None while the journal can be read, else the last error's text.
        self.trouble: str | None = None

    async def run(self) -> None:
        """Consume until cancelled."""
        while True:
            try:
                await self._consume()
            except UnavailableError as error:
                if self.trouble is None:
                    _LOG.error("detector: %s", error)
                self.trouble = str(error)
                await asyncio.sleep(RETRY_FIRST)

    async def _consume(self) -> None:
        if not self.offset:
            self.offset = await self._journal.committed(DETECTOR)
        while True:
            await self._journal.wait(self.offset)
            parsed = await self._reader.read(self.offset)
            await self._judge(parsed)
            self.trouble = None
            if parsed:
                self.offset = parsed[-1].batch.offset + parsed[-1].batch.count
                await self._journal.commit(DETECTOR, self.offset)
