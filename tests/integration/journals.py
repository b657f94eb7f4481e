"""What the tests of the journal share: batches, a journal in a folder, its consumers' names."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from logguardd.journal.sqlite import MIN_SIZE, SqliteJournal
from logguardd.records import SECOND, Batch, Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ORIGIN = Origin("192.0.2.1", "tcp")
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
DAY = 86_400 * SECOND


def batch(*frames: str | bytes, at: int = START, origin: Origin = ORIGIN) -> Batch:
    """A batch as the intake makes it: not numbered yet."""
    joined = b"\n".join(f if isinstance(f, bytes) else f.encode() for f in frames)
    return Batch(0, at, origin, joined, len(frames))


def large(number: int, size: int = 1 << 20, at: int = START) -> Batch:
    """A batch of one frame of ``size`` bytes that says which one it is."""
    return batch(f"{number} ".encode().ljust(size, b"x"), at=at)


def numbers(batches: list[Batch]) -> list[int]:
    """Return which large() batches these are."""
    return [int(b.frames[:20].split()[0]) for b in batches]


@contextlib.asynccontextmanager
async def opened(path: Path, retention: int = 7 * DAY, max_size: int = MIN_SIZE) -> AsyncIterator[SqliteJournal]:
    """An open journal, closed in the end."""
    journal = SqliteJournal(path, retention, max_size)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def everything(journal: SqliteJournal, start: int = 1) -> list[Batch]:
    """Read the journal to its end, in small reads."""
    found: list[Batch] = []
    while batches := await journal.read(start, 1 << 20):
        found += batches
        start = batches[-1].offset + batches[-1].count
    return found


async def append_until_refused(journal: SqliteJournal, first: int = 0) -> None:
    """Append large() batches, numbered from ``first``, until the journal raises; it must within a hundred."""
    for number in range(first, first + 100):
        await journal.append([large(number)])


async def until(condition: Callable[[], object]) -> None:
    """Poll until ``condition()`` holds; fail after twenty seconds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is polled knows no event
            await asyncio.sleep(0.005)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes."""
    return path.stat().st_size
