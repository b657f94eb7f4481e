"""The journal's tables and what is done to them: plain SQL, run in the journal's threads.

One row of ``batches`` is one batch, keyed by the position of its first message. ``floor`` is the first position that
was never dropped, so that positions are not given twice after everything was dropped.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError, UnavailableError
from logguardd.records import Batch, Origin
from logguardd.sqlite import claim, space, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: "logj": marks the file as ours (PRAGMA application_id).
APPLICATION = 0x6C6F676A
_FORMAT = 1

#: The most that one transaction deletes, so that appends never wait long behind it (a few tens of milliseconds).
STEP = 8 << 20

#: Bytes of the file system that are left free, and the part of a small one: on a disk that is full to the last byte
#: SQLite cannot delete either, since that is written to the WAL first.
RESERVE, RESERVED_PART = 64 << 20, 3

# Pages of 16 KiB keep a batch of 256 KiB in 16 of them; a trickle still writes only one a commit. Debian's SQLite would
# overwrite what is deleted, that is write every message once more.
_PAGE = 16 << 10
_PRAGMAS = (f"page_size = {_PAGE}", "auto_vacuum = INCREMENTAL", "secure_delete = OFF", "synchronous = FULL", "cache_size = -4096")  # fmt: skip
# The WAL is checkpointed at 16 MiB, on a small disk earlier, and not cut below twice that, so that it does not need new
# room all the time.
_CHECKPOINT, _CHECKPOINT_PART = 16 << 20, 12


def pragmas(path: Path) -> tuple[str, ...]:
    """Return the settings of connections to a journal at ``path``, which depend on its disk."""
    disk = os.statvfs(path)
    checkpoint = max(min(_CHECKPOINT, disk.f_blocks * disk.f_frsize // _CHECKPOINT_PART), 4 * _PAGE)
    return (*_PRAGMAS, f"wal_autocheckpoint = {checkpoint // _PAGE}", f"journal_size_limit = {2 * checkpoint}")


#: What a row takes beside its frames, about.
_ROW = 64

_SCHEMA = """
CREATE TABLE journal (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    "offset" INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,
    origin TEXT NOT NULL,
    count INTEGER NOT NULL,
    frames BLOB NOT NULL
);
CREATE TABLE consumers (name TEXT PRIMARY KEY, "offset" INTEGER NOT NULL) WITHOUT ROWID;
"""


class Store:
    """The journal's state as its file has it. The writer's thread calls the methods; anyone may read the numbers.

    ``head`` and ``oldest`` are positions as in journal.Journal, ``used`` the bytes in use, ``dropped`` the messages
    dropped since the start. They are right after every call, also after one that raised.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path
        self._max_size = max_size
        self.id = ""
        self.head = self.oldest = 1
        self.used = self.dropped = self._free = 0

    def load(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Make the tables where missing, learn the state, return the consumers' offsets.

        Raises errors.ConfigError for a file that is not to be used.
        """
        if claim(connection, APPLICATION, "journal", self._path):
            with transaction(connection):
                for statement in _SCHEMA.split(";")[:-1]:
                    connection.execute(statement)
                first = [("format", _FORMAT), ("id", uuid.uuid4().hex), ("floor", 1)]
                connection.executemany("INSERT INTO journal VALUES (?, ?)", first)
        meta = dict(connection.execute("SELECT key, value FROM journal"))
        if meta["format"] != _FORMAT:
            raise ConfigError(
                f"journal: {self._path}: made by another version of logguardd (format {meta['format']}; "
                f"this one reads {_FORMAT})"
            )
        self.id = meta["id"]
        last = connection.execute('SELECT "offset" + count FROM batches ORDER BY "offset" DESC LIMIT 1').fetchone()
        self.head = max(meta["floor"], last[0] if last else 1)
        self._measure(connection)
        return dict(connection.execute("SELECT * FROM consumers"))

    def append(
        self, connection: sqlite3.Connection, batches: Sequence[Batch], consumers: Mapping[str, int], before: int
    ) -> list[Batch]:
        """Store batches, and consumers' offsets with them, in one transaction; return them numbered.

        Over max_size, or on a disk with less than its reserve left, consumed batches (those that end at or before position
        ``before``) make room: losing history early is better than not receiving. Raises errors.UnavailableError when
        there is none to be made.
        """
        numbered: list[Batch] = []
        position, size = self.head, 0
        for batch in batches:
            numbered.append(Batch(position, batch.received_at, batch.origin, batch.frames, batch.count))
            position += batch.count
            size += len(batch.frames) + _ROW
        over = max(self.used + size - self._max_size, size - self._free - self._disk())
        if over > 0 and self.drop(connection, before=before, older=None, size=STEP) < min(over, size):
            raise UnavailableError(self._why(before, size))
        with transaction(connection):
            connection.executemany("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", map(_row, numbered))
            _store_offsets(connection, consumers)
        if self.oldest == self.head:
            self.oldest = numbered[0].offset
        self.head = position
        self.used, self._free = space(connection)
        return numbered

    def _disk(self) -> int:
        """Return the bytes by which the file may grow on its disk."""
        disk = os.statvfs(self._path)
        return max(disk.f_bavail * disk.f_frsize - self._reserve(), 0)

    def _reserve(self) -> int:
        disk = os.statvfs(self._path)
        return min(RESERVE, disk.f_blocks * disk.f_frsize // RESERVED_PART)

    def _why(self, before: int, size: int) -> str:
        needed = f"a consumer still needs all from position {before} on (the next is {self.head})"
        if self.used + size > self._max_size:
            return f"journal full: {self._path} holds {self.used} of max_size {self._max_size} bytes, and {needed}"
        return f"journal: {self._path}: the disk is full but for {self._reserve() >> 20} MiB kept back, and {needed}"

    def store_offsets(self, connection: sqlite3.Connection, consumers: Mapping[str, int]) -> None:
        """Store consumers' offsets."""
        with transaction(connection):
            _store_offsets(connection, consumers)

    def advance(self, connection: sqlite3.Connection, position: int) -> None:
        """Give no position below ``position`` to a message any more."""
        with transaction(connection):
            _raise_floor(connection, position)
        self.head = max(self.head, position)
        self._measure(connection)

    def drop(self, connection: sqlite3.Connection, *, before: int, older: int | None, size: int) -> int:
        """Delete the oldest batches that end at or before position ``before``, in one transaction of at most STEP bytes.

        With ``older`` only those received before that time; else about ``size`` bytes. Return the bytes that went.
        """
        size = min(size, STEP)
        messages = freed = 0
        end = None
        rows = connection.execute(
            'SELECT "offset", count, received_at, length(frames) FROM batches ORDER BY "offset" LIMIT 4096'
        )
        for first, count, received_at, length in rows:
            if first + count > before or freed >= size or (older is not None and received_at >= older):
                break
            end = first + count
            messages += count
            freed += length + _ROW
        rows.close()
        if end is not None:
            with transaction(connection):
                connection.execute('DELETE FROM batches WHERE "offset" < ?', (end,))
                _raise_floor(connection, end)
            self.dropped += messages
            self._measure(connection)
        return freed

    def _measure(self, connection: sqlite3.Connection) -> None:
        first = connection.execute('SELECT "offset" FROM batches ORDER BY "offset" LIMIT 1').fetchone()
        self.oldest = first[0] if first else self.head
        self.used, self._free = space(connection)


def select(connection: sqlite3.Connection, offset: int, max_bytes: int) -> list[Batch]:
    """Return batches from the one that holds ``offset`` until ``max_bytes`` are reached, at least one if there is any."""
    start = connection.execute('SELECT max("offset") FROM batches WHERE "offset" <= ?', (offset,)).fetchone()[0]
    found: list[Batch] = []
    size = 0
    rows = connection.execute('SELECT * FROM batches WHERE "offset" >= ? ORDER BY "offset"', (start or 0,))
    for first, received_at, origin, count, frames in rows:
        if first + count <= offset:
            continue  # what ends before a gap
        transport, peer, identity = origin.split(" ", 2)
        found.append(Batch(first, received_at, Origin(peer, transport, identity), frames, count))
        size += len(frames) + _ROW
        if size >= max_bytes:
            break
    rows.close()
    return found


def _store_offsets(connection: sqlite3.Connection, consumers: Mapping[str, int]) -> None:
    connection.executemany("INSERT OR REPLACE INTO consumers VALUES (?, ?)", consumers.items())


def _raise_floor(connection: sqlite3.Connection, floor: int) -> None:
    connection.execute("UPDATE journal SET value = max(value, ?) WHERE key = 'floor'", (floor,))


def _row(batch: Batch) -> tuple[int, int, str, int, bytes]:
    peer, transport, identity = batch.origin
    return (batch.offset, batch.received_at, f"{transport} {peer} {identity}", batch.count, batch.frames)
