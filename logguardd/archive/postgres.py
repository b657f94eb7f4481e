"""The archive in PostgreSQL: COPY and the journal's offset in one transaction.

Exactly once: the transaction first moves the journal's offset from the position where these rows begin to the one after
them, and fails if it is not there (compare and set, which also locks the row). So a second daemon on a copy of the
journal, or a retry after a commit whose answer was lost, stores nothing; the offset is read again and tells.

synchronous_commit is left as the server has it (on). Switching it off would be correct as long as the journal still
holds what a crash of PostgreSQL takes back, but the journal drops consumed batches at once when it is full; and with
thousands of rows a transaction it gained nothing that could be measured.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from logguardd.archive import bans as banned
from logguardd.archive.migrations import load, pending
from logguardd.archive.partitions import Partitions
from logguardd.archive.rows import COLUMNS, CREATED_AT, About, Received, harmless
from logguardd.archive.session import REFUSED, Session
from logguardd.errors import ConfigError, UnavailableError
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from logguardd.archive.rows import Row
    from logguardd.records import Ban

_log = logging.getLogger(__name__)

_DAY = 86_400 * SECOND
#: Partitions made ahead, in days.
_AHEAD = 3
#: Two daemons that start at once migrate one after the other.
_MIGRATING = 7813583284023519233
_OLDEST_SERVER = 12
_HELP = "`logguardctl setup --postgres-admin URL` sets it right, or"
_GRANTS = "see the GRANTs at the top of sql/postgres/0001_archive.sql"

_FORGET_BANS = """
    DELETE FROM blacklist WHERE id IN (
        SELECT id FROM blacklist WHERE last_blacklisted_at < $1 AND (NOT is_active OR expires_at < $1) LIMIT 10000)
"""


class PostgresArchive:
    """An archive.Archive at ``url`` (postgresql://...), which keeps days for ``retention`` microseconds.

    ``offset`` must be read before the first ``write`` for a journal and again after any that raised.
    """

    def __init__(self, url: str, retention: int) -> None:
        self._retention = retention
        self._writing = Session(url)  # messages have a connection of their own: a ban never waits behind a COPY
        self._other = Session(url)
        self._reading = Session(url)  # questions may take long, and are seldom asked
        self._partitions = Partitions(self._other)
        self._next: dict[str, int] = {}
        self._opened = False

    async def open(self) -> None:
        """Connect, migrate the schema under an advisory lock, make partitions; may be called again at any time.

        Raises errors.UnavailableError while the server refuses, for whatever reason (it may be set right while we keep
        receiving), errors.ConfigError for a URL that means nothing and a schema that we cannot use.
        """
        self._opened = False
        self._next.clear()
        self._partitions.forget()
        async with self._other.use() as connection:
            self._check(connection)
            await self._migrate(connection)
            await self._check_rights(connection)
        await self._partitions.make([time.time_ns() // 1000])
        async with self._writing.use():
            pass
        self._opened = True

    def _check(self, connection: Any) -> None:
        where = self._other.where
        encoding = connection.get_settings().server_encoding
        if encoding.upper() not in ("UTF8", "UTF-8"):
            raise ConfigError(f"archive: {where}: its encoding is {encoding}; create the database with ENCODING 'UTF8'")
        version = connection.get_server_version()
        if version.major < _OLDEST_SERVER:
            raise ConfigError(f"archive: {where}: PostgreSQL {version.major} is too old; {_OLDEST_SERVER} or later")

    async def _migrate(self, connection: Any) -> None:
        where = self._other.where
        migrations = load("postgres")
        before = None
        try:
            before = await _version(connection)
            todo = pending(migrations, before, where)
            if not todo:
                return
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATING)
                todo = pending(migrations, await _version(connection), where)
                if not todo:
                    return
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS logguardd_migrations "
                    "(version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
                )
                for migration in todo:
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO logguardd_migrations (version, name) VALUES ($1, $2)",
                        migration.version,
                        migration.name,
                    )
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            # After an upgrade it is no reason not to receive: what arrives waits in the journal.
            wrong = UnavailableError if before else ConfigError
            newest = migrations[-1].version
            why = "" if before is None else f"; this role cannot bring the schema from version {before} to {newest}"
            raise wrong(
                f"archive: {where}: {error}{why}; {_HELP} let the database's owner start logguardd once, then {_GRANTS}"
            ) from error
        except asyncpg.DuplicateTableError as error:
            raise ConfigError(
                f"archive: {where}: {error}, and logguardd did not make it; use a database of its own"
            ) from error
        _log.info("archive: schema of %s brought to version %d", where, migrations[-1].version)

    async def _check_rights(self, connection: Any) -> None:
        missing = await connection.fetchrow(
            "SELECT name, needed FROM unnest(ARRAY['logs', 'blacklist', 'journal_offsets']) name, "
            "unnest(ARRAY['SELECT', 'INSERT']) needed WHERE NOT has_table_privilege(name, needed) LIMIT 1"
        )
        if missing is not None:
            raise ConfigError(
                f"archive: {self._other.where}: permission denied for table {missing['name']}: no right to "
                f"{missing['needed']}; {_HELP} {_GRANTS}"
            )

    async def offset(self, journal_id: str) -> int:
        """Return the first position of the journal not yet stored, 0 for one never seen; writes go on from there."""
        async with self._writing.use() as connection:
            found = await connection.fetchval(
                "SELECT next_offset FROM journal_offsets WHERE journal_id = $1", journal_id
            )
        self._next[journal_id] = int(found or 0)
        return self._next[journal_id]

    async def write(self, rows: Sequence[Row], journal_id: str, offset: int) -> None:
        """Store the rows and, in the same transaction, ``offset`` as the first position not yet stored.

        Encoding takes the event loop 1 µs a row: a few thousand at a time. Raises errors.UnavailableError when they are
        not stored, or it is not known whether they are: read ``offset`` and go on from there.
        """
        begin = self._next.pop(journal_id, None)
        if begin is None:
            raise UnavailableError(f"archive: the offset of journal {journal_id} must be read (again) before writing")
        await self._partitions.make({row[CREATED_AT] for row in rows})
        async with self._writing.use() as connection:
            try:
                async with connection.transaction():
                    await _advance(connection, journal_id, begin, offset)
                    await _copy(connection, rows)
            except REFUSED:
                async with connection.transaction():
                    await _advance(connection, journal_id, begin, offset)
                    await _copy_around(connection, rows)
        self._next[journal_id] = offset

    async def load_bans(self, limit: int) -> list[Ban]:
        """Return the newest ``limit`` bans, newest last; those lifted before their time have ``until`` = ``since``."""
        async with self._other.use() as connection:
            found = await connection.fetch(
                "SELECT ip_address, port, reason, blacklist_count, last_blacklisted_at, expires_at, metadata, is_active "
                "FROM blacklist ORDER BY last_blacklisted_at DESC, id DESC LIMIT $1",
                limit,
            )
        now = time.time_ns() // 1000
        return [banned.from_row(banned.BanRow(*row[:7]), active=row[7], now=now) for row in reversed(found)]

    async def save_bans(self, bans: Sequence[Ban]) -> None:
        """Insert or update bans by (network, port); the time of the first one stays."""
        async with self._other.use() as connection, connection.transaction():
            await connection.executemany(
                "SELECT logguardd_ban($1, $2, $3, $4, $5, $6, $7)",
                [tuple(banned.to_row(ban)) for ban in _by_key(bans)],
            )

    async def end_bans(self, bans: Sequence[Ban]) -> None:
        """Mark bans as no longer active (expired or unbanned), unless a newer one of the same key was saved since."""
        async with self._other.use() as connection, connection.transaction():
            await connection.executemany(
                "SELECT logguardd_end_ban($1, $2, $3)",
                [(banned.address(ban.network), ban.port, ban.since) for ban in _by_key(bans)],
            )

    async def about(self, address: str, limit: int) -> list[About]:
        """Return the ``limit`` newest messages with this remote address, newest first."""
        async with self._asking() as connection:
            found = await connection.fetch(
                "SELECT created_at, client_id, service_name, rule, action, destination_port, message FROM logs "
                "WHERE source_ip = $1 ORDER BY created_at DESC, id DESC LIMIT $2",
                address,
                limit,
            )
        return [About(*row) for row in found]

    async def look(self) -> None:
        """Check that the server and the tables are there; for programs beside the daemon."""
        async with self._asking() as connection:
            await connection.execute("SELECT FROM logs LIMIT 0")

    async def received(self, first: int, last: int, limit: int) -> list[Received]:
        """Return what was received from ``first`` on and before ``last``, in order, at most ``limit`` messages of it."""
        async with self._asking() as connection:
            found = await connection.fetch(
                "SELECT created_at, origin, raw_log FROM logs WHERE created_at >= $1 AND created_at < $2 "
                "ORDER BY created_at, id LIMIT $3",
                first,
                last,
                limit,
            )
        return [Received(*row) for row in found]

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        """Give a connection to one question."""
        async with self._reading.use() as connection, connection.transaction(readonly=True):
            yield connection

    async def maintain(self, now: int) -> int:
        """Make partitions ahead, drop days and past bans older than retention; return how many days were dropped.

        What a long query on ``logs`` holds up is left for the next time, and so is what we have no right to.
        """
        if not self._opened:
            raise UnavailableError("archive: its schema could not be looked at yet")
        self._partitions.forget()
        await self._partitions.make(now + day * _DAY for day in range(_AHEAD + 1))
        async with self._other.use() as connection:
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                await connection.execute(_FORGET_BANS, now - self._retention)
        return await self._partitions.drop(now - self._retention)

    async def close(self) -> None:
        """Close the connections."""
        await self._writing.close()
        await self._other.close()
        await self._reading.close()


async def _version(connection: Any) -> int:
    """Return the schema's version, 0 where there is none."""
    # Not to_regclass(): it may answer from before the advisory lock was ours.
    table = "SELECT 1 FROM pg_class WHERE relname = 'logguardd_migrations' AND pg_table_is_visible(oid)"
    if await connection.fetchval(table) is None:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM logguardd_migrations"))


async def _advance(connection: Any, journal_id: str, begin: int, offset: int) -> None:
    """Move the journal's offset from ``begin`` to ``offset``; raise errors.UnavailableError if it is not there."""
    if not await connection.fetchval("SELECT logguardd_advance($1, $2, $3)", journal_id, begin, offset):
        raise UnavailableError(
            f"archive: journal {journal_id} is not stored up to {begin} as it was before: an earlier write came through, "
            "or another daemon runs on a copy of this journal"
        )


async def _copy(connection: Any, rows: Sequence[Row]) -> None:
    if rows:
        await connection.copy_records_to_table("logs", records=rows, columns=COLUMNS)


async def _copy_around(connection: Any, rows: Sequence[Row]) -> None:
    """Store rows of which some are refused: halve down to each of them and store a harmless form of it."""
    if not rows:
        return
    try:
        async with connection.transaction():
            await _copy(connection, rows)
    except REFUSED as error:
        if len(rows) > 1:
            middle = len(rows) // 2
            await _copy_around(connection, rows[:middle])
            await _copy_around(connection, rows[middle:])
            return
        _log.warning("archive: a message is stored escaped, as it was refused: %s", error)
        try:
            await _copy(connection, [harmless(rows[0], str(error))])
        except REFUSED as again:
            raise UnavailableError(f"archive: rows are refused, whatever is in them: {again}") from again


def _by_key(bans: Sequence[Ban]) -> list[Ban]:
    """Return bans in an order that is the same for every daemon, so that two of them cannot deadlock."""
    return sorted(bans, key=lambda ban: (banned.address(ban.network), ban.port))
