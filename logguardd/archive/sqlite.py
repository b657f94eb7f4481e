"""The embedded archive: the same tables in one SQLite file, in WAL mode with synchronous=FULL.

Exactly once as in PostgreSQL: rows and the journal's offset in one transaction, which fails if the offset is not where
these rows begin. Readers (sqlite3 on the command line, a report) do not block it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

from logguardd.archive import bans as banned
from logguardd.archive.iso import format_time, format_times, parse_time
from logguardd.archive.migrations import load, pending
from logguardd.archive.rows import COLUMNS, CREATED_AT, About, Received, harmless
from logguardd.errors import UnavailableError
from logguardd.records import SECOND
from logguardd.sqlite import Connection, claim, create, give_back, readable, recognise, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from logguardd.archive.rows import Row
    from logguardd.records import Ban

_log = logging.getLogger(__name__)

#: "loga": marks the file as ours (PRAGMA application_id).
_APPLICATION = 0x6C6F6761
_PRAGMAS = (
    "page_size = 8192",
    "auto_vacuum = INCREMENTAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2048",
    "journal_size_limit = 33554432",
    "cache_size = -16384",
)
_DAY = 86_400 * SECOND
#: Rows that one transaction of retention deletes, and bytes given back to the file system after them.
_STEP = 5_000
_STEP_BYTES = 16 << 20

_INSERT = f"INSERT INTO logs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - constants

#: What SQLite and Python's module raise about a value, not about the file.
_REFUSED = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, ValueError,
            TypeError, OverflowError)  # fmt: skip


class SqliteArchive:
    """An archive.Archive in the file ``path``, which keeps days for ``retention`` microseconds.

    ``offset`` must be read before the first ``write`` for a journal and again after any that raised.
    """

    def __init__(self, path: Path, retention: int) -> None:
        self._path = path
        self._retention = retention
        self._connection = Connection(path, "archive", lambda: _PRAGMAS)
        self._reading = Connection(path, "archive", lambda: ("query_only = ON",))
        self._next: dict[str, int] = {}

    async def open(self) -> None:
        """Create or open the file and migrate its schema; may be called again at any time.

        Raises errors.ConfigError when its place cannot be used or it is damaged, errors.UnavailableError when the disk
        is full or fails.
        """
        await self._connection.close()
        self._next.clear()
        create(self._path, "archive")
        await self._connection.run(partial(_migrate, path=self._path), opening=True)

    async def offset(self, journal_id: str) -> int:
        """Return the first position of the journal not yet stored, 0 for one never seen; writes go on from there."""

        def work(connection: sqlite3.Connection) -> int:
            query = "SELECT next_offset FROM journal_offsets WHERE journal_id = ?"
            found = connection.execute(query, (journal_id,)).fetchone()
            return int(found[0]) if found else 0

        self._next[journal_id] = await self._connection.run(work)
        return self._next[journal_id]

    async def write(self, rows: Sequence[Row], journal_id: str, offset: int) -> None:
        """Store the rows and, in the same transaction, ``offset`` as the first position not yet stored.

        Raises errors.UnavailableError when they are not stored: read ``offset`` and go on from there.
        """
        begin = self._next.pop(journal_id, None)
        if begin is None:
            raise UnavailableError(f"archive: the offset of journal {journal_id} must be read (again) before writing")

        def work(connection: sqlite3.Connection) -> None:
            try:
                with transaction(connection):
                    _advance(connection, journal_id, begin, offset)
                    connection.executemany(_INSERT, _encoded(rows))
            except _REFUSED:
                with transaction(connection):
                    _advance(connection, journal_id, begin, offset)
                    _insert_around(connection, rows)

        await self._connection.run(work)
        self._next[journal_id] = offset

    async def load_bans(self, limit: int) -> list[Ban]:
        """Return the newest ``limit`` bans, newest last; those lifted before their time have ``until`` = ``since``."""

        def work(connection: sqlite3.Connection) -> list[Ban]:
            found = connection.execute(
                "SELECT ip_address, port, reason, blacklist_count, last_blacklisted_at, expires_at, metadata, is_active "
                "FROM blacklist ORDER BY last_blacklisted_at DESC, id DESC LIMIT ?",
                (limit,),
            ).fetchall()
            now = time.time_ns() // 1000
            bans = []
            for address, port, reason, count, since, until, metadata, active in reversed(found):
                end = None if until is None else parse_time(until)
                row = banned.BanRow(address, port, reason, count, parse_time(since), end, metadata)
                bans.append(banned.from_row(row, active=bool(active), now=now))
            return bans

        return await self._connection.run(work)

    async def save_bans(self, bans: Sequence[Ban]) -> None:
        """Insert or update bans by (network, port); the time of the first one stays."""

        def work(connection: sqlite3.Connection) -> None:
            rows = []
            for ban in bans:
                address, port, reason, count, since, until, metadata = banned.to_row(ban)
                start, end = format_time(since), None if until is None else format_time(until)
                rows.append((address, port, reason, count, start, start, end, metadata))
            with transaction(connection):
                connection.executemany(
                    "INSERT INTO blacklist (ip_address, port, reason, blacklist_count, first_blacklisted_at, "
                    "last_blacklisted_at, expires_at, is_active, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?) "
                    "ON CONFLICT (ip_address, port) DO UPDATE SET reason = excluded.reason, "
                    "blacklist_count = max(blacklist_count, excluded.blacklist_count), "
                    "last_blacklisted_at = excluded.last_blacklisted_at, expires_at = excluded.expires_at, "
                    "is_active = 1, metadata = excluded.metadata",
                    rows,
                )

        await self._connection.run(work)

    async def end_bans(self, bans: Sequence[Ban]) -> None:
        """Mark bans as no longer active (expired or unbanned), unless a newer one of the same key was saved since."""

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(
                    "UPDATE blacklist SET is_active = 0 WHERE ip_address = ? AND port = ? AND last_blacklisted_at <= ?",
                    [(banned.address(ban.network), ban.port, format_time(ban.since)) for ban in bans],
                )

        await self._connection.run(work)

    async def about(self, address: str, limit: int) -> list[About]:
        """Return the ``limit`` newest messages with this remote address, newest first."""

        def work(connection: sqlite3.Connection) -> list[About]:
            found = connection.execute(
                "SELECT created_at, client_id, service_name, rule, action, destination_port, message FROM logs "
                "WHERE source_ip = ? ORDER BY created_at DESC, id DESC LIMIT ?",
                (address, limit),
            )
            return [About(parse_time(at), *rest) for at, *rest in found]

        return await self._reading.run(work)

    async def look(self) -> None:
        """Check that the file is there and an archive; for programs beside the daemon. Raises errors.ConfigError."""
        readable(self._path, "archive")
        check = partial(recognise, application_id=_APPLICATION, what="archive", path=self._path)
        await self._reading.run(check, opening=True)

    async def received(self, first: int, last: int, limit: int) -> list[Received]:
        """Return what was received from ``first`` on and before ``last``, in order, at most ``limit`` messages of it."""

        def work(connection: sqlite3.Connection) -> list[Received]:
            found = connection.execute(
                "SELECT created_at, origin, raw_log FROM logs WHERE created_at >= ? AND created_at < ? "
                "ORDER BY created_at, id LIMIT ?",
                (format_time(first), format_time(last), limit),
            )
            return [Received(parse_time(at), *rest) for at, *rest in found]

        return await self._reading.run(work)

    async def maintain(self, now: int) -> int:
        """Delete days and past bans older than retention, in bounded steps; return how many days were dropped."""
        before = (now - self._retention) // _DAY
        oldest = await self._connection.run(_oldest_day)
        while await self._connection.run(partial(_delete_step, before=before)):
            pass
        await self._connection.run(partial(_forget_bans, before=now - self._retention))
        while await self._connection.run(partial(give_back, step=_STEP_BYTES, spare=2 * _STEP_BYTES)):
            pass
        return 0 if oldest is None else max(before - oldest, 0)

    async def close(self) -> None:
        """Close the file."""
        await self._connection.close()
        await self._reading.close()


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    claim(connection, _APPLICATION, "archive", path)
    migrations = load("sqlite")
    if not pending(migrations, _version(connection), str(path)):
        return
    with transaction(connection):
        for migration in pending(migrations, _version(connection), str(path)):  # another daemon may have been quicker
            for statement in statements(migration.sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {migration.version}")
    _log.info("archive: schema of %s brought to version %d", path, migrations[-1].version)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a script (executescript would commit between them)."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _advance(connection: sqlite3.Connection, journal_id: str, begin: int, offset: int) -> None:
    """Move the journal's offset from ``begin`` to ``offset``; raise errors.UnavailableError if it is not there."""
    if begin:
        done = connection.execute(
            "UPDATE journal_offsets SET next_offset = ?, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ') "
            "WHERE journal_id = ? AND next_offset = ?",
            (offset, journal_id, begin),
        )
    else:
        done = connection.execute(
            "INSERT INTO journal_offsets (journal_id, next_offset) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (journal_id, offset),
        )
    if done.rowcount != 1:
        raise UnavailableError(
            f"archive: journal {journal_id} is not stored up to {begin} as it was before: another daemon runs on a copy of "
            "this journal"
        )


def _encoded(rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    """Yield rows with their times as text."""
    times = format_times(row[0] for row in rows)
    created = format_times(row[CREATED_AT] for row in rows)
    for row, timestamp, created_at in zip(rows, times, created, strict=True):
        yield (timestamp, *row[1:CREATED_AT], created_at, *row[CREATED_AT + 1 :])


def _insert_around(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Store rows of which some are refused one by one, those in a harmless form."""
    for row in rows:
        try:
            connection.execute(_INSERT, next(_encoded([row])))
        except _REFUSED as error:
            _log.warning("archive: a message is stored escaped, as it was refused: %s", error)
            connection.execute(_INSERT, next(_encoded([harmless(row, str(error))])))


def _oldest_day(connection: sqlite3.Connection) -> int | None:
    (oldest,) = connection.execute("SELECT min(created_at) FROM logs").fetchone()
    return None if oldest is None else parse_time(oldest) // _DAY


def _delete_step(connection: sqlite3.Connection, before: int) -> int:
    with transaction(connection):
        return connection.execute(
            "DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE created_at < ? ORDER BY created_at LIMIT ?)",
            (format_time(before * _DAY), _STEP),
        ).rowcount


def _forget_bans(connection: sqlite3.Connection, before: int) -> None:
    with transaction(connection):
        connection.execute(
            "DELETE FROM blacklist WHERE id IN (SELECT id FROM blacklist WHERE last_blacklisted_at < ?1 "
            "AND (NOT is_active OR expires_at < ?1) LIMIT 10000)",
            (format_time(before),),
        )
