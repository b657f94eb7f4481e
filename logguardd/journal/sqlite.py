"""The embedded journal: one SQLite file in WAL mode, one row per batch, synchronous=FULL.

A writer and a reader connection work in threads of their own, so the event loop never waits for the disk; consumers
that keep up read from memory.

Offsets that consumers commit are noted at once but written with the next append, within a second, or at close: after a
crash a consumer may read again what it already committed, which both consumers can (the archive keeps its own offset in
its own transactions, and a hit counted twice is counted once). That saves an fsync for every commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError, UnavailableError
from logguardd.journal.store import STEP, Store, pragmas, select
from logguardd.journal.tail import Tail
from logguardd.lockfile import LockedError, Lockfile
from logguardd.sqlite import NO_ROOM, Connection, create, give_back

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any, TypeVar

    from logguardd.records import Batch

    T = TypeVar("T")

#: Bytes of the newest batches kept in memory.
_TAIL = 16 << 20
#: Seconds until a committed offset is written when no append takes it along.
_COMMIT_DELAY = 1.0
#: The least max_size: below it one append could not fit however much was consumed.
MIN_SIZE = 16 << 20


class SqliteJournal:
    """A journal.Journal in the file ``path``; ``retention`` in microseconds, ``max_size`` in bytes (at least MIN_SIZE).

    ``max_size`` bounds the pages in use; the write-ahead log beside the file takes up to 32 MiB more. Nothing is dropped
    that one of ``consumers`` has not committed yet, even if it never ran.
    """

    def __init__(
        self, path: Path, retention: int, max_size: int, *, consumers: Sequence[str] = ("archive", "detector")
    ) -> None:
        if max_size < MIN_SIZE:
            raise ConfigError(f"journal: max_size {max_size} bytes is too small; at least {MIN_SIZE >> 20}MiB")
        self._path = path
        self._retention = retention
        self._lock: Lockfile | None = None
        self._store = Store(path, max_size)
        self._writer = Connection(path, "journal", partial(pragmas, path))
        self._reader = Connection(path, "journal", lambda: (*pragmas(path), "query_only = ON"))
        self._tail = Tail(_TAIL)
        self._head = 1
        self._oldest = 1
        self._consumers = dict.fromkeys(consumers, 1)
        self._dirty: set[str] = set()
        self._pruned = 0
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._order = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def id(self) -> str:
        """The journal's identity: a UUID in hexadecimal, made with the file."""
        return self._store.id

    @property
    def head(self) -> int:
        """The position that the next message will get."""
        return self._head

    @property
    def oldest(self) -> int:
        """The position of the oldest message still kept."""
        return self._oldest

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._store.used

    async def open(self) -> None:
        """Create or open the file.

        Raises errors.ConfigError when its place cannot be used, the file is damaged or another daemon has it;
        errors.UnavailableError when the disk is full or fails.
        """
        create(self._path, "journal")
        self._lock = self._acquire()
        try:
            self._consumers |= await self._writer.run(self._store.load, opening=True)
            await self._reader.run(partial(select, offset=self._store.oldest, max_bytes=1), opening=True)
        except BaseException:
            await self._release()
            raise
        self._head, self._oldest = self._store.head, self._store.oldest

    async def append(self, batches: Sequence[Batch]) -> int:
        """Write the batches in order, all or none, numbering them; return the new head once they are durable.

        Raises errors.UnavailableError when the disk is full or fails, or when the journal holds ``max_size`` bytes
        that a consumer still needs. Cancelling the caller does not stop what has begun.
        """
        if not batches:
            return self._head
        return await self._whole(self._append(batches))

    async def _append(self, batches: Sequence[Batch]) -> int:
        async with self._order:
            offsets = self._uncommitted()
            work = partial(self._store.append, batches=batches, consumers=offsets, before=self._needed())
            numbered = await self._write(work, offsets)
            self._tail.add(numbered)
        for future, offset in list(self._waiting.items()):
            if offset < self._head and not future.done():
                future.set_result(None)
        return self._head

    async def read(self, offset: int, max_bytes: int) -> list[Batch]:
        """Return batches in order from the one that holds ``offset``, at least one if there is any, about max_bytes."""
        if offset >= self._head:
            return []
        found = self._tail.read(offset, max_bytes)
        return found or await self._reader.run(partial(select, offset=offset, max_bytes=max_bytes))

    async def wait(self, offset: int) -> None:
        """Return once ``head`` is greater than ``offset``."""
        if self._head > offset:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = offset
        try:
            await future
        finally:
            del self._waiting[future]

    async def commit(self, consumer: str, offset: int) -> None:
        """Note that ``consumer`` needs nothing before ``offset`` any more; it never goes back."""
        offset = min(offset, self._head)
        if offset <= self._consumers.get(consumer, 0):
            return
        self._consumers[consumer] = offset
        self._dirty.add(consumer)
        self._store_later()

    async def committed(self, consumer: str) -> int:
        """Return the offset of ``consumer``; one that is new begins at ``oldest`` and from now on keeps what it needs."""
        if consumer not in self._consumers:
            self._consumers[consumer] = self._oldest
            self._dirty.add(consumer)
            self._store_later()
        return max(self._consumers[consumer], self._oldest)

    async def advance(self, position: int) -> None:
        """Give no position below ``position`` to a message any more.

        For a journal that fell back behind what a consumer has stored (an older copy put in its place, or a disk that
        lied about fsync): without it, new messages would get positions that count as stored already.
        """
        async with self._order:
            await self._write(partial(self._store.advance, position=position), {})

    async def prune(self, now: int) -> int:
        """Drop consumed batches beyond retention and give free space back; return the messages dropped since last time.

        Works in bounded steps, between which appends go on. What max_size drops, append drops by itself.
        """
        older = now - self._retention
        while await self._whole(self._prune(older)):
            pass
        pruned, self._pruned = self._store.dropped - self._pruned, self._store.dropped
        return pruned

    async def _prune(self, older: int) -> int:
        async with self._order:
            freed = await self._write(partial(self._store.drop, before=self._needed(), older=older, size=STEP), {})
            if not freed:
                await self._writer.run(partial(give_back, step=2 * STEP, spare=8 * STEP))
        return freed

    async def close(self) -> None:
        """Write what consumers committed and close; errors at this point are not raised (nothing received is lost)."""
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting:
            future.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with contextlib.suppress(UnavailableError):
            await self._store_offsets()
        await self._release()

    async def _release(self) -> None:
        await self._reader.close()
        await self._writer.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _acquire(self) -> Lockfile:
        """Lock a file beside the journal; not the journal's own, where SQLite keeps POSIX locks."""
        name = f"{self._path}.lock"
        try:
            return Lockfile(name)
        except LockedError as error:
            raise ConfigError(
                f"journal: {self._path}: in use by another logguardd (process {error.pid or 'unknown'}); "
                "every daemon needs a journal of its own"
            ) from error
        except OSError as error:
            kind = UnavailableError if error.errno in NO_ROOM else ConfigError
            raise kind(f"journal: {name}: {error.strerror}") from error

    def _needed(self) -> int:
        """Return the first position that a consumer still needs."""
        return min(self._consumers.values(), default=self._head)

    def _uncommitted(self) -> dict[str, int]:
        offsets = {consumer: self._consumers[consumer] for consumer in self._dirty}
        self._dirty.clear()
        return offsets

    async def _write(self, work: Callable[[sqlite3.Connection], T], offsets: dict[str, int]) -> T:
        """Run ``work`` on the writer, then take over the state; ``offsets`` stay to be written if it fails."""
        try:
            return await self._writer.run(work)
        except UnavailableError:
            self._dirty.update(offsets)
            self._store_later()
            raise
        finally:
            self._head = self._store.head
            self._oldest = self._store.oldest
            self._tail.drop_before(self._oldest)

    def _store_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_COMMIT_DELAY, self._store_now)

    def _store_now(self) -> None:
        self._timer = None

        async def attempt() -> None:
            with contextlib.suppress(UnavailableError):  # it stays noted and is tried again
                await self._store_offsets()

        self._keep(attempt())

    async def _store_offsets(self) -> None:
        async with self._order:
            offsets = self._uncommitted()
            if offsets:
                await self._write(partial(self._store.store_offsets, consumers=offsets), offsets)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller that wanted it may have been cancelled

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` to its end even if the caller is cancelled: the thread cannot be stopped halfway."""
        return await asyncio.shield(self._keep(work))
