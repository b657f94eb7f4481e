"""The embedded journal: positions, reading, offsets, what survives, who may use it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from logguardd.errors import ConfigError
from logguardd.journal.sqlite import SqliteJournal
from logguardd.records import Origin
from tests.integration.journals import DAY, START, batch, everything, large, opened, until
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_positions_count_messages_from_one(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            assert (journal.head, journal.oldest) == (1, 1)
            assert await journal.append([batch("a", "b", "c"), batch("d")]) == 5
            assert await journal.append([batch("e")]) == 6
            assert await journal.append([]) == 6
            found = await journal.read(1, 1 << 20)
            assert [(b.offset, b.count, b.frames) for b in found] == [(1, 3, b"a\nb\nc"), (4, 1, b"d"), (5, 1, b"e")]
            assert (journal.head, journal.oldest) == (6, 1)
            assert journal.size > 0

    asyncio.run(scenario())


def test_a_read_begins_with_the_batch_that_holds_the_position(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a", "b", "c"), batch("d", "e")])
            for position, first in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]:
                assert (await journal.read(position, 1))[0].offset == first
            assert await journal.read(6, 1) == []
            assert await journal.read(99, 1) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("reopened", [False, True])
def test_a_read_is_about_as_large_as_asked(path: Path, reopened: bool) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([large(n, 1000) for n in range(10)])
            if not reopened:
                assert [len(await journal.read(1, size)) for size in (1, 1000, 2500, 1 << 20)] == [1, 1, 3, 10]
        async with opened(path) as journal:
            assert [len(await journal.read(1, size)) for size in (1, 1000, 2500, 1 << 20)] == [1, 1, 3, 10]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "origin",
    [
        Origin("192.0.2.1", "udp"),
        Origin("2001:db8::1", "tls", "web 1.example, Über"),
        Origin("fe80::1", "relp", ""),
    ],
)
def test_a_batch_comes_back_as_it_went(path: Path, origin: Origin) -> None:
    hostile = [b"\xff\xfe", "ünï😀".encode(), b"'; DROP TABLE batches; --", b" ", b"\t\r"]

    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch(*hostile, at=START + 123456, origin=origin)])
            in_memory = await journal.read(1, 1)
        async with opened(path) as journal:
            assert await journal.read(1, 1) == in_memory
            (got,) = in_memory
            assert (got.origin, got.received_at, got.count) == (origin, START + 123456, 5)
            assert got.frames.split(b"\n") == hostile

    asyncio.run(scenario())


def test_what_no_longer_fits_into_memory_is_read_from_the_file(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, max_size=100 << 20) as journal:
            for n in range(40):
                await journal.append([large(n)])
            assert [b.offset for b in await everything(journal)] == list(range(1, 41))

    asyncio.run(scenario())


def test_reading_and_appending_at_once(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, max_size=100 << 20) as journal:
            read: dict[str, list[int]] = {"fast": [], "slow": []}

            async def write() -> None:
                for n in range(60):
                    await journal.append([large(n, 600_000)])

            async def consume(name: str, max_bytes: int) -> None:
                position = 1
                while len(read[name]) < 60:
                    await journal.wait(position)
                    for got in await journal.read(position, max_bytes):
                        read[name].append(got.offset)
                        position = got.offset + got.count

            await asyncio.wait_for(asyncio.gather(write(), consume("fast", 1 << 22), consume("slow", 1)), 60)
            assert read["fast"] == read["slow"] == list(range(1, 61))

    asyncio.run(scenario())


def test_wait_returns_once_the_position_is_there(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            early = asyncio.create_task(journal.wait(1))
            late = asyncio.create_task(journal.wait(3))
            await asyncio.sleep(0)
            await journal.append([batch("a", "b")])
            await asyncio.wait_for(early, 5)
            assert not late.done()
            await journal.append([batch("c")])
            await asyncio.wait_for(late, 5)
            await asyncio.wait_for(journal.wait(2), 5)

    asyncio.run(scenario())


def test_closing_ends_those_who_wait(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            waiting = asyncio.create_task(journal.wait(1))
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())


def test_a_cancelled_append_is_whole_and_counted(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            task = asyncio.create_task(journal.append([large(1), batch("b")]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await journal.append([batch("c")])
            assert [b.offset for b in await everything(journal)] == [1, 2, 3]

    asyncio.run(scenario())


def test_offsets_of_consumers(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a", "b", "c")])
            assert await journal.committed("archive") == 1
            await journal.commit("archive", 3)
            await journal.commit("archive", 2)
            assert await journal.committed("archive") == 3
            assert await journal.committed("detector") == 1
            await journal.commit("detector", 99)
            assert await journal.committed("detector") == 4
        async with opened(path) as journal:
            assert await journal.committed("archive") == 3
            assert await journal.committed("detector") == 4

    asyncio.run(scenario())


def test_a_committed_offset_is_written_without_an_append(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a", "b")])
            await journal.commit("archive", 2)
            await until(lambda: stored() == 2)

    def stored() -> int | None:
        with sqlite3.connect(path) as connection:
            row = connection.execute("SELECT \"offset\" FROM consumers WHERE name = 'archive'").fetchone()
        connection.close()
        return row[0] if row else None

    asyncio.run(scenario())


def test_the_identity_stays_with_the_file(path: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            identity = journal.id
        async with opened(path) as journal:
            assert journal.id == identity
        async with opened(tmp_path / "other.db") as other:
            assert other.id != identity

    asyncio.run(scenario())


def test_positions_are_not_given_twice_when_all_was_dropped(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a", "b", "c")])
            await journal.commit("archive", 4)
            await journal.commit("detector", 4)
            assert await journal.prune(START + 8 * DAY) == 3
            assert (journal.oldest, journal.head) == (4, 4)
            assert await journal.read(1, 1) == []
        async with opened(path) as journal:
            assert (journal.oldest, journal.head) == (4, 4)
            assert await journal.append([batch("d")]) == 5
            assert (journal.oldest, journal.head) == (4, 5)

    asyncio.run(scenario())


def test_positions_can_be_advanced_past_what_a_consumer_stored(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a", "b")])
            await journal.advance(100)
            assert (journal.oldest, journal.head) == (1, 100)
            await journal.advance(50)
            assert await journal.append([batch("c")]) == 101
            assert [b.offset for b in await journal.read(50, 1 << 20)] == [100]
        async with opened(path) as journal:
            assert [b.offset for b in await everything(journal)] == [1, 100]
            assert [b.offset for b in await journal.read(50, 1 << 20)] == [100]

    asyncio.run(scenario())


def test_a_second_daemon_is_refused(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path):
            with pytest.raises(
                ConfigError, match=rf"journal\.db: in use by another logguardd \(process {os.getpid()}\)"
            ):
                await SqliteJournal(path, DAY, 1 << 30).open()
        async with opened(path):
            pass  # free again

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", ["text", "header", "pages"])
def test_a_damaged_file_is_refused_with_advice(path: Path, damage: str) -> None:
    async def make() -> None:
        async with opened(path) as journal:
            await journal.append([large(n, 100_000) for n in range(20)])

    async def use() -> None:
        async with opened(path):
            pass

    asyncio.run(make())
    if damage == "text":
        path.write_text("not a database, but longer than its header is: " * 10)
    else:
        with path.open("r+b") as file:
            file.seek(16 if damage == "header" else 100)
            file.write(b"\xa5" * 60_000)
    with pytest.raises(ConfigError, match=r"journal\.db: the file is damaged .* mv .*journal\.db\.damaged") as caught:
        asyncio.run(use())
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    async def use(path: Path) -> None:
        async with opened(path):
            pass

    (tmp_path / "folder").mkdir()
    for path, reason in [
        (tmp_path / "missing" / "journal.db", "No such file or directory"),
        (tmp_path / "folder", "not a regular file"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            asyncio.run(use(path))


def test_another_programs_database_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(ConfigError, match="not a logguardd journal"):
        asyncio.run(opened(path).__aenter__())


def test_a_journal_of_a_later_version_is_refused(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path):
            pass
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("UPDATE journal SET value = 2 WHERE key = 'format'")
        connection.close()
        with pytest.raises(ConfigError, match="another version of logguardd"):
            await opened(path).__aenter__()

    asyncio.run(scenario())


def test_the_files_are_not_readable_by_others(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([batch("a")])
            check()

    def check() -> None:
        for name in ("", "-wal", "-shm"):
            assert path.with_name(path.name + name).stat().st_mode & 0o007 == 0

    asyncio.run(scenario())


_WRITER = """
    import asyncio, sys
    from pathlib import Path
    from tests.integration.journals import batch, opened

    async def main():
        async with opened(Path(sys.argv[1]), max_size=1 << 30) as journal:
            n = journal.head
            while True:
                count = n % 7 + 1
                frames = [f"message {n + i} " + "x" * ((n + i) % 3000) for i in range(count)]
                n = await journal.append([batch(*frames)])
                print(n, flush=True)

    asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_durable_and_leaves_no_half_batch(path: Path, tmp_path: Path) -> None:
    """Killed five times while it appends: what it had said to be durable is there, in order, without a gap."""
    promised = 1
    for round_ in range(5):
        said = tmp_path / f"said{round_}"
        with said.open("wb") as output:
            child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_WRITER), str(path)], stdout=output)
        enough = 500 * (round_ + 1)
        wait_until(lambda said=said, enough=enough: said.stat().st_size > enough, what="the writer writing")
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        promised = int(said.read_bytes().rpartition(b"\n")[0].splitlines()[-1])

        async def check(promised: int = promised) -> None:
            async with opened(path, max_size=1 << 30) as journal:
                assert journal.head >= promised
                position = 1
                for got in await everything(journal):
                    assert got.offset == position
                    lines = got.frames.split(b"\n")
                    assert len(lines) == got.count == position % 7 + 1
                    for line in lines:
                        assert line == b"message %d " % position + b"x" * (position % 3000)
                        position += 1
                assert position == journal.head

        asyncio.run(check())
