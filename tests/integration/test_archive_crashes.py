"""Exactly once through crashes: the writer killed, the server killed, the connection lost around the commit."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from logguardd.archive import session
from logguardd.errors import UnavailableError
from tests.integration.archives import JOURNAL, Kind, some_rows
from tests.integration.journals import until
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.integration.archives import Archive
    from tests.servers.postgres import PostgreSQL


async def check(kind: Kind) -> int:
    """See that every position below the offset is stored once and none beyond; return the offset."""
    numbers = [int(message) for message in await kind.messages()]
    ((offset,),) = await kind.query("SELECT next_offset FROM journal_offsets") or [(1,)]
    assert numbers == list(range(1, offset)), (len(numbers), offset)
    return offset


async def consume(archive: Archive, wanted: Callable[[int], bool], size: int = 50) -> None:
    """Write positions in batches as the consumer does, after any failure going on at the offset read again."""
    while True:
        try:
            await archive.open()
            begin = max(await archive.offset(JOURNAL), 1)
            while wanted(begin):
                await archive.write(some_rows(map(str, range(begin, begin + size))), JOURNAL, begin + size)
                begin += size
        except UnavailableError:
            await asyncio.sleep(0.05)
        else:
            return


class Progress:
    """How far a consumer has come, and whether it may stop."""

    def __init__(self) -> None:
        self.reached = 0
        self.enough = False

    def wanted(self, begin: int) -> bool:
        self.reached = begin
        return not self.enough

    async def goes_on(self, by: int = 200) -> None:
        mark = self.reached + by
        await until(lambda: self.reached >= mark)


_WRITER = """
    import asyncio, sys
    from tests.integration.archives import Kind
    from tests.integration.test_archive_crashes import consume

    def wanted(begin):
        print(begin, flush=True)
        return True

    asyncio.run(consume(Kind(sys.argv[1], sys.argv[2]).make(), wanted, 7))
"""


def test_kill_9_of_the_writer(kind: Kind, tmp_path: Path) -> None:
    reached = 1
    for round_ in range(5):
        said = tmp_path / f"said{round_}"
        with said.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(_WRITER), kind.name, kind.place], stdout=output
            )
        wait_until(lambda said=said: said.stat().st_size > 200, what="the writer writing")
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        promised = int(said.read_bytes().rpartition(b"\n")[0].splitlines()[-1])
        offset = asyncio.run(check(kind))
        assert offset >= promised > reached - 1
        reached = offset


def test_the_server_crashes_and_comes_back(postgres: PostgreSQL) -> None:
    kind = Kind("postgres", postgres.fresh_database())

    async def scenario() -> None:
        archive = kind.make()
        progress = Progress()
        consuming = asyncio.create_task(consume(archive, progress.wanted))
        for _ in range(3):
            await progress.goes_on()
            await asyncio.to_thread(postgres.stop, "immediate")
            await asyncio.to_thread(postgres.start)
        await progress.goes_on()
        progress.enough = True
        await asyncio.wait_for(consuming, 30)
        await archive.close()
        assert await check(kind) == progress.reached

    asyncio.run(scenario())


def test_a_server_that_is_away_from_the_start(postgres: PostgreSQL) -> None:
    kind = Kind("postgres", postgres.fresh_database())

    async def scenario() -> None:
        archive = kind.make()
        await asyncio.to_thread(postgres.stop)
        with pytest.raises(UnavailableError, match="Connection refused"):
            await archive.open()
        consuming = asyncio.create_task(consume(archive, lambda begin: begin < 500))
        await asyncio.to_thread(postgres.start)
        await asyncio.wait_for(consuming, 30)
        await archive.close()
        assert await check(kind) == 501

    asyncio.run(scenario())


def test_connections_that_are_terminated(postgres: PostgreSQL) -> None:
    kind = Kind("postgres", postgres.fresh_database())
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'logguardd'"

    async def scenario() -> None:
        archive = kind.make()
        progress = Progress()
        consuming = asyncio.create_task(consume(archive, progress.wanted))
        for n in range(10):
            await progress.goes_on(by=50 * (n % 3))
            await kind.query(kill)
        await progress.goes_on()
        progress.enough = True
        await asyncio.wait_for(consuming, 30)
        await archive.close()
        assert await check(kind) == progress.reached

    asyncio.run(scenario())


class Wire:
    """A TCP relay to the server that can lose what comes back, as a network does."""

    def __init__(self, url: str) -> None:
        self.parts = urlsplit(url)
        self.lose_answer_to = b""
        self.frozen = False
        self.lost = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        async with server:
            host = f"postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self.parts._replace(netloc=host).geturl()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.parts.hostname, self.parts.port)
        losing = asyncio.Event()

        async def up() -> None:
            while chunk := await reader.read(65536):
                if self.lose_answer_to and self.lose_answer_to in chunk:
                    losing.set()
                up_writer.write(chunk)
                await up_writer.drain()

        async def down() -> None:
            while chunk := await up_reader.read(65536):
                if losing.is_set():
                    self.lost += 1
                    self.lose_answer_to = b""
                    return
                while self.frozen:  # noqa: ASYNC110 - a flag of the test's
                    await asyncio.sleep(0.01)
                writer.write(chunk)
                await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        with contextlib.suppress(OSError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, up_writer):
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()


def test_the_answer_to_a_commit_is_lost(postgres: PostgreSQL) -> None:
    """Stored, but we were not told: trying again must not store it again."""
    kind = Kind("postgres", postgres.fresh_database())
    wire = Wire(kind.place)

    async def scenario() -> None:
        async with wire.running() as url, Kind("postgres", url).opened() as archive:
            await archive.offset(JOURNAL)
            await archive.write(some_rows("12"), JOURNAL, 3)
            for begin in (3, 5):
                wire.lose_answer_to = b"COMMIT"
                rows = some_rows([str(begin), str(begin + 1)])
                with pytest.raises(UnavailableError):
                    await archive.write(rows, JOURNAL, begin + 2)
                with pytest.raises(UnavailableError, match="must be read"):
                    await archive.write(rows, JOURNAL, begin + 2)
                assert await archive.offset(JOURNAL) == begin + 2
            assert wire.lost == 2
            await archive.write(some_rows("7"), JOURNAL, 8)
        assert await check(kind) == 8

    asyncio.run(scenario())


def test_the_connection_is_lost_before_the_commit(postgres: PostgreSQL) -> None:
    kind = Kind("postgres", postgres.fresh_database())
    wire = Wire(kind.place)

    async def scenario() -> None:
        async with wire.running() as url, Kind("postgres", url).opened() as archive:
            await archive.offset(JOURNAL)
            wire.lose_answer_to = b"COPY "
            with pytest.raises(UnavailableError):
                await archive.write(some_rows("12"), JOURNAL, 3)
            assert await archive.offset(JOURNAL) == 0
            await archive.write(some_rows("12"), JOURNAL, 3)
        assert await check(kind) == 3

    asyncio.run(scenario())


def test_a_server_that_no_longer_answers(postgres: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind("postgres", postgres.fresh_database())
    wire = Wire(kind.place)

    async def scenario() -> None:
        async with wire.running() as url, Kind("postgres", url).opened() as archive:
            await archive.offset(JOURNAL)
            wire.frozen = True
            monkeypatch.setattr(session, "_TRANSACTION", 0.5)
            with pytest.raises(UnavailableError, match="no answer within"):
                await archive.write(some_rows("12"), JOURNAL, 3)
            monkeypatch.undo()
            wire.frozen = False
            begin = max(await archive.offset(JOURNAL), 1)
            await archive.write(some_rows(map(str, range(begin, 5))), JOURNAL, 5)
        assert await check(kind) == 5

    asyncio.run(scenario())
