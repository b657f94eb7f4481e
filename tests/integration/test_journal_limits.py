"""The embedded journal at its limits: retention, max_size, a full disk, a file that stays bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from logguardd.errors import ConfigError, UnavailableError
from logguardd.journal.sqlite import MIN_SIZE, SqliteJournal
from tests.integration.journals import (
    DAY,
    START,
    append_until_refused,
    batch,
    everything,
    large,
    numbers,
    opened,
    size_of,
)
from tests.servers.process import need_root, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def commit_all(journal: SqliteJournal, offset: int) -> None:
    await journal.commit("archive", offset)
    await journal.commit("detector", offset)


def test_retention_drops_only_what_every_consumer_has_committed(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, retention=DAY) as journal:
            for n in range(10):
                await journal.append([large(n, 1000, START + n * DAY)])
            late = START + 30 * DAY
            assert await journal.prune(late) == 0, "no consumer ever came"
            await journal.commit("detector", 11)
            assert await journal.prune(late) == 0, "the archive never came"
            await journal.commit("archive", 4)
            assert await journal.prune(late) == 3
            assert (journal.oldest, journal.head) == (4, 11)
            await journal.commit("archive", 11)
            assert await journal.prune(START + 7 * DAY) == 3, "batches 0..5 are older than a day"
            assert numbers(await everything(journal)) == [6, 7, 8, 9]
            assert await journal.prune(START + 7 * DAY) == 0

    asyncio.run(scenario())


def test_a_consumer_of_any_name_keeps_what_it_needs(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, retention=DAY) as journal:
            await journal.append([large(0, 1000), large(1, 1000)])
            assert await journal.committed("replay") == 1
            await commit_all(journal, 3)
            assert await journal.prune(START + 30 * DAY) == 0
            await journal.commit("replay", 2)
            assert await journal.prune(START + 30 * DAY) == 1

    asyncio.run(scenario())


def test_a_batch_is_kept_whole_when_a_consumer_stands_inside_it(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, retention=DAY) as journal:
            await journal.append([batch("a", "b", "c")])
            await commit_all(journal, 3)
            assert await journal.prune(START + 30 * DAY) == 0
            assert journal.oldest == 1

    asyncio.run(scenario())


def test_a_long_history_is_dropped_in_steps_while_appends_go_on(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, retention=DAY, max_size=200 << 20) as journal:
            for n in range(60):
                await journal.append([large(n)])
            await commit_all(journal, 61)
            pruning = asyncio.create_task(journal.prune(START + 2 * DAY))
            appended = 0
            while not pruning.done():
                await journal.append([large(100, 1000, START + 2 * DAY)])
                appended += 1
            assert await pruning == 60
            assert appended >= 5, "it did not wait for the whole deletion"
            assert numbers(await everything(journal)) == [100] * appended

    asyncio.run(scenario())


def test_max_size_drops_consumed_batches_first(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            for n in range(100):
                await journal.append([large(n)])
                await commit_all(journal, journal.head)
                assert journal.size <= MIN_SIZE
            kept = numbers(await everything(journal, journal.oldest))
            assert kept[-1] == 99
            assert kept == list(range(kept[0], 100))
            assert await journal.prune(START) == 100 - len(kept)
        assert size_of(path) <= MIN_SIZE + (1 << 20)

    asyncio.run(scenario())


def test_a_full_journal_refuses_until_a_consumer_commits(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.commit("detector", 1 << 40)
            with pytest.raises(UnavailableError, match=r"journal full: .*journal\.db .* needs all from position 1 on"):
                await append_until_refused(journal)
            head = journal.head
            assert 12 < head < 18
            assert journal.size <= MIN_SIZE
            with pytest.raises(UnavailableError, match="journal full"):
                await journal.append([large(98)])
            await journal.append([large(99, 1000)])  # there may be room for a small one
            assert numbers(await everything(journal)) == [*range(head - 1), 99]
            await commit_all(journal, 6)
            await journal.append([large(100)])
            assert journal.oldest == 6
            assert numbers(await everything(journal, 6))[-2:] == [99, 100]

    asyncio.run(scenario())


def test_a_smaller_max_size_than_before_shrinks_what_is_consumed(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, max_size=200 << 20) as journal:
            for n in range(80):
                await journal.append([large(n)])
            await commit_all(journal, journal.head)
        async with opened(path) as journal:
            for n in range(20):
                await journal.append([large(n)])
                await commit_all(journal, journal.head)
            assert journal.size <= MIN_SIZE
            for _ in range(10):
                await journal.prune(START)
        assert size_of(path) < 100 << 20, "the space was given back"

    asyncio.run(scenario())


def test_the_write_ahead_log_stays_bounded(path: Path) -> None:
    wal = path.with_name("journal.db-wal")

    async def scenario() -> None:
        async with opened(path, max_size=1 << 30) as journal:
            for n in range(150):
                await journal.append([large(n)])
                if n % 10 == 0:
                    await journal.read(max(1, n - 50), 1 << 22)
                assert size_of(wal) < 40 << 20
        assert not wal.exists()

    asyncio.run(scenario())


def test_a_max_size_that_no_append_fits_into_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="max_size 1024 bytes is too small; at least 16MiB"):
        SqliteJournal(path, DAY, 1024)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 192 MiB in memory, or of as many as the test's parameter says."""
    need_root()
    folder = tmp_path / "disk"
    folder.mkdir()
    size = getattr(request, "param", 192)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        unavailable(f"no tmpfs here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_and_resumes_by_itself(small_disk: Path) -> None:
    async def scenario() -> None:
        ballast = small_disk / "ballast"
        async with opened(small_disk / "journal.db", max_size=1 << 30) as journal:
            await journal.append([large(0)])
            ballast.write_bytes(bytes(100 << 20))
            with pytest.raises(UnavailableError, match=r"journal\.db: the disk is full but for 64 MiB kept back"):
                await append_until_refused(journal, 1)
            stored = list(range(journal.head - 1))
            for _ in range(3):
                with pytest.raises(UnavailableError):
                    await journal.append([large(99)])
            assert len(stored) > 10
            assert numbers(await everything(journal)) == stored, "reading goes on"
            await journal.commit("archive", 2)
            ballast.unlink()
            await journal.append([large(1000)])
            assert numbers(await everything(journal)) == [*stored, 1000]
        async with opened(small_disk / "journal.db", max_size=1 << 30) as journal:
            assert numbers(await everything(journal)) == [*stored, 1000]
            assert await journal.committed("archive") == 2

    asyncio.run(scenario())


def test_on_a_full_disk_consumed_batches_make_room(small_disk: Path) -> None:
    async def scenario() -> None:
        async with opened(small_disk / "journal.db", max_size=1 << 30) as journal:
            for n in range(200):
                await journal.append([large(n)])
                await commit_all(journal, journal.head - 1)
            kept = numbers(await everything(journal, journal.oldest))
            assert kept == list(range(kept[0], 200))
            assert kept[0] > 50

    asyncio.run(scenario())


@pytest.mark.parametrize("small_disk", [16, 24, 64], indirect=True)
def test_a_very_small_disk_is_used_and_resumes_by_itself(small_disk: Path) -> None:
    async def scenario() -> None:
        disk = os.statvfs(small_disk)
        async with opened(small_disk / "journal.db", max_size=1 << 30) as journal:
            for _ in range(3):
                first = journal.head
                with pytest.raises(UnavailableError, match="kept back"):
                    await append_until_refused(journal, first)
                assert (journal.head - first) << 20 > disk.f_blocks * disk.f_frsize // 4
                assert numbers(await everything(journal, first)) == list(range(first, journal.head))
                await commit_all(journal, journal.head)
                await journal.append([large(journal.head)])

    asyncio.run(scenario())


def test_a_disk_that_others_fill_to_the_last_byte(small_disk: Path) -> None:
    async def scenario() -> None:
        ballast = small_disk / "ballast"
        async with opened(small_disk / "journal.db", max_size=1 << 30) as journal:
            await journal.append([large(0)])
            for n in range(1, 4):
                with pytest.raises(OSError, match="No space left"):
                    ballast.write_bytes(bytes(193 << 20))
                with pytest.raises(UnavailableError):
                    await journal.append([large(99)])
                await journal.commit("archive", journal.head)
                ballast.unlink()
                await journal.append([large(n)])
                assert numbers(await everything(journal)) == list(range(n + 1))

    asyncio.run(scenario())


def test_an_error_of_sqlite_itself_is_retryable(path: Path) -> None:
    """SQLITE_FULL as the disk would give it in the middle of a transaction, by a bound on the file's pages."""

    async def scenario() -> None:
        async with opened(path) as journal:
            await journal.append([large(0)])
            await journal._writer.run(lambda c: c.execute("PRAGMA max_page_count = 80").fetchall())
            with pytest.raises(UnavailableError, match="no space left"):
                await journal.append([large(1, 1000), large(2)])
            assert journal.head == 2
            await journal._writer.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())
            await journal.append([large(3)])
            assert numbers(await everything(journal)) == [0, 3]

    asyncio.run(scenario())


def test_starting_on_a_full_disk_is_retryable(small_disk: Path) -> None:
    async def scenario() -> None:
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(193 << 20))
        journal = SqliteJournal(small_disk / "journal.db", DAY, MIN_SIZE)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await journal.open()
        ballast.unlink()
        await journal.open()
        await journal.append([batch("a")])
        await journal.close()

    asyncio.run(scenario())


def test_going_on_with_a_journal_on_a_full_disk_says_so_and_is_retryable(small_disk: Path) -> None:
    async def scenario() -> None:
        async with opened(small_disk / "journal.db") as journal:
            await journal.append([large(0)])
        ballast = small_disk / "ballast"
        disk = os.statvfs(small_disk)
        ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - 8192))  # room for the lock file
        journal = SqliteJournal(small_disk / "journal.db", DAY, MIN_SIZE)
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"journal\.db: no space left"):
                await journal.open()
        ballast.unlink()
        await journal.open()
        assert numbers(await everything(journal)) == [0]
        await journal.close()

    asyncio.run(scenario())
