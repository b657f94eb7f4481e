"""The embedded archive: what only a file can do to it."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from logguardd.archive.sqlite import SqliteArchive, statements
from logguardd.errors import ConfigError, UnavailableError
from tests.integration.archives import DAY, JOURNAL, NOW, TODAY, Kind, some_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive.db"


async def make(path: Path) -> None:
    async with Kind("sqlite", str(path)).opened() as archive:
        await archive.offset(JOURNAL)
        await archive.write(some_rows("abc"), JOURNAL, 4)


def test_a_damaged_file_is_refused_with_advice(path: Path) -> None:
    path.write_text("this was never a database, whatever its name says" * 100)
    with pytest.raises(ConfigError, match=r"archive: .*archive\.db: the file is damaged .* mv "):
        asyncio.run(make(path))


def test_a_journal_is_no_archive(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA application_id = 1819240298; CREATE TABLE journal (x);")
    connection.close()
    with pytest.raises(ConfigError, match="not a logguardd archive"):
        asyncio.run(make(path))


def test_a_newer_schema_is_refused(path: Path) -> None:
    asyncio.run(make(path))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(ConfigError, match="schema is version 9999, made by a later logguardd"):
        asyncio.run(make(path))


def test_a_missing_folder_is_an_error_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        asyncio.run(make(tmp_path / "missing" / "archive.db"))


def test_a_full_disk_is_retryable(path: Path) -> None:
    async def scenario() -> None:
        async with Kind("sqlite", str(path)).opened() as archive:
            assert isinstance(archive, SqliteArchive)
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a"), JOURNAL, 2)
            await archive._connection.run(lambda c: c.execute("PRAGMA max_page_count = 1").fetchall())
            with pytest.raises(UnavailableError, match="no space left"):
                await archive.write(some_rows(["x" * 100_000] * 5), JOURNAL, 7)
            assert await archive.offset(JOURNAL) == 2
            await archive._connection.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())
            await archive.write(some_rows("b"), JOURNAL, 3)
        assert await Kind("sqlite", str(path)).messages() == ["a", "b"]

    asyncio.run(scenario())


def test_a_reader_does_not_block_and_a_writer_is_waited_for(path: Path) -> None:
    async def scenario() -> None:
        async with Kind("sqlite", str(path)).opened() as archive:
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a"), JOURNAL, 2)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN")
            other.execute("SELECT * FROM logs").fetchall()
            await archive.write(some_rows("b"), JOURNAL, 3)
            other.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(archive.write(some_rows("c"), JOURNAL, 4))
            await asyncio.sleep(0.1)
            assert not writing.done()
            other.execute("COMMIT")
            await asyncio.wait_for(writing, 20)
            other.close()

    asyncio.run(scenario())


def test_dropped_days_give_their_space_back(path: Path) -> None:
    async def scenario() -> None:
        async with Kind("sqlite", str(path)).opened(retention=3 * DAY) as archive:
            await archive.offset(JOURNAL)
            rows = some_rows(["x" * 20_000] * 1_500, at=TODAY - 10 * DAY)
            await archive.write(rows, JOURNAL, 1_501)
            await archive.write(some_rows("a"), JOURNAL, 1_502)
            before = size()
            assert await archive.maintain(NOW) == 7
        assert size() < before - (20 << 20)

    def size() -> int:
        return sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith("archive.db"))

    asyncio.run(scenario())


def test_times_read_as_sqlite_reads_them(path: Path) -> None:
    async def scenario() -> None:
        kind = Kind("sqlite", str(path))
        async with kind.opened() as archive:
            await archive.offset(JOURNAL)
            await archive.write(some_rows("a", at=1_767_225_600_123_456), JOURNAL, 2)
        assert await kind.query("SELECT created_at, datetime(created_at), strftime('%s', created_at) FROM logs") == [
            ("2026-01-01T00:00:00.123456Z", "2026-01-01 00:00:00", "1767225600")
        ]

    asyncio.run(scenario())


def test_scripts_are_cut_into_statements() -> None:
    script = (
        "-- a; comment\nCREATE TABLE a (x TEXT DEFAULT ';');\n/* another; */ CREATE INDEX i\n  ON a (x);\n-- the end;\n"
    )
    assert [s.splitlines()[-1].strip() for s in statements(script)] == [
        "CREATE TABLE a (x TEXT DEFAULT ';');", "ON a (x);",
    ]  # fmt: skip
