"""A connection shared by tasks that close it whenever they like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from logguardd.sqlite import Connection

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


def add(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO numbers DEFAULT VALUES")


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM numbers").fetchone()[0])


def test_it_may_be_closed_while_others_use_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        shared = Connection(tmp_path / "file.db", "test", lambda: ["journal_mode = WAL"])
        await shared.run(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))

        async def use() -> None:
            for _ in range(50):
                await shared.run(add)

        async def close() -> None:
            for _ in range(50):
                await shared.close()
                await shared.run(count)

        await asyncio.gather(use(), close(), use(), close())
        assert await shared.run(count) == 100
        await shared.close()

    asyncio.run(scenario())
