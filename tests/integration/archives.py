"""What the tests of the archive share: both of them behind one face, and rows to put in."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from logguardd.archive.postgres import PostgresArchive
from logguardd.archive.rows import COLUMNS, Row, rows
from logguardd.archive.sqlite import SqliteArchive
from logguardd.records import SECOND, Batch, Match, Origin, Record, Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

Archive = PostgresArchive | SqliteArchive

DAY = 86_400 * SECOND
NOW = time.time_ns() // 1000
TODAY = NOW // DAY * DAY
JOURNAL = "5d0a9b3e"
ORIGIN = Origin("192.0.2.1", "tcp")
RULE = Rule("sshd-failed-password", ("sshd",), frozenset({"auth-failure"}), "medium", "ssh", 22)
RECORD = Record(4, 6, NOW, "web1", "sshd", "42", "ID47", '{"a@1": {"b": "c"}}', "a message", None, "<38>1 a message")
MATCH = Match(RULE, "203.0.113.5", 40022, 22, "tcp", "root", True)


class Kind:
    """One of the two archives: how to make it, and how to look into it without it. ``place`` is a URL or a path."""

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self.place = place

    def make(self, retention: int = 90 * DAY) -> Archive:
        if self.name == "postgres":
            return PostgresArchive(self.place, retention)
        return SqliteArchive(Path(self.place), retention)

    @contextlib.asynccontextmanager
    async def opened(self, retention: int = 90 * DAY) -> AsyncIterator[Archive]:
        archive = self.make(retention)
        await archive.open()
        try:
            yield archive
        finally:
            await archive.close()

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL that both understand."""
        if self.name == "postgres":
            connection = await asyncpg.connect(self.place)
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()
        with contextlib.closing(sqlite3.connect(self.place, isolation_level=None)) as file:
            return file.execute(sql).fetchall()

    async def logs(self) -> list[Row]:
        """Return what is stored, as rows, in order of id."""
        return [
            tuple(_plain(name, value) for name, value in zip(COLUMNS, row, strict=True))
            for row in await self.query(f"SELECT {', '.join(COLUMNS)} FROM logs ORDER BY id")
        ]

    async def messages(self) -> list[str]:
        return [message for (message,) in await self.query("SELECT message FROM logs ORDER BY id")]


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("timestamp", "created_at"):
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond
    return str(value) if name == "source_ip" else value


def some_rows(messages: Iterable[str], at: int = NOW, match: Match | None = None, **fields: Any) -> list[Row]:
    """Rows with these messages, received at ``at``."""
    records = [RECORD._replace(msg=message, raw=message, timestamp=at, **fields) for message in messages]
    return rows(Batch(1, at, ORIGIN, b"", len(records)), records, [match] * len(records))


def same(stored: Row, given: Row) -> bool:
    """Whether two rows are the same, JSON compared as JSON."""
    column = COLUMNS.index("structured_data")
    left, right = (
        tuple(v if n != column or v is None else json.loads(v) for n, v in enumerate(row)) for row in (stored, given)
    )
    return left == right
