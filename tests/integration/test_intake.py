"""The intake in front of a real journal: group commits, merging, backpressure, outages, closing."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from logguardd.journal.intake import Intake
from logguardd.journal.sqlite import MIN_SIZE
from logguardd.metrics import Metrics
from logguardd.records import Framed, Origin
from tests.integration.journals import ORIGIN, START, everything, large, opened, until

if TYPE_CHECKING:
    from pathlib import Path

    from logguardd.journal.sqlite import SqliteJournal

OTHER = Origin("192.0.2.2", "udp")


class Clock:
    """A clock that the test turns; it goes on by itself by ``step`` microseconds a look."""

    def __init__(self, step: int = 0) -> None:
        self.now = START
        self.step = step

    def __call__(self) -> int:
        self.now += self.step
        return self.now


def framed(*frames: str) -> Framed:
    return Framed("\n".join(frames).encode(), len(frames))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def fill(journal: SqliteJournal) -> None:
    """Fill the journal so that nothing more goes in until a consumer commits."""
    for n in range(15):
        await journal.append([large(n)])


async def drain(journal: SqliteJournal) -> None:
    for consumer in ("archive", "detector"):
        await journal.commit(consumer, journal.head)


def test_puts_are_durable_when_their_future_is_done(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock())
            future = intake.put(ORIGIN, framed("a", "b"))
            assert future is not None
            assert journal.head == 1
            await future
            assert journal.head == 3
            await intake.close()

    asyncio.run(scenario())


def test_no_frames_no_future(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock())
            assert intake.put(ORIGIN, Framed(b"", 0, dropped={"empty": 3})) is None
            await intake.flush()
            assert journal.head == 1

    asyncio.run(scenario())


def test_a_trickle_makes_one_batch_an_origin_and_commit(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            clock = Clock(step=10)
            metrics = Metrics()
            intake = Intake(journal, metrics, clock)
            futures = {intake.put((ORIGIN, OTHER)[n % 2], framed(f"m{n}")) for n in range(100)}
            assert len(futures) == 1, "the future is shared"
            await intake.flush()
            first, second = await everything(journal)
            assert (first.origin, second.origin) == (ORIGIN, OTHER)
            assert first.frames == b"\n".join(b"m%d" % n for n in range(0, 100, 2))
            assert (first.offset, first.count, second.offset, second.count) == (1, 50, 51, 50)
            assert (first.received_at, second.received_at) == (START + 10, START + 20)
            assert value(metrics, "logguardd_receive_to_journal_seconds_count") == 2

    asyncio.run(scenario())


def test_receive_times_that_differ_make_separate_batches(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            clock = Clock()
            intake = Intake(journal, Metrics(), clock)
            for step in (0, 9_000, 2_000, 10_000, 1, -5_000):
                clock.now += step
                intake.put(ORIGIN, framed(f"at {clock.now - START}"))
            await intake.flush()
            assert [(b.received_at - START, b.count) for b in await everything(journal)] == [
                (0, 2), (11_000, 2), (21_001, 1), (16_001, 1),
            ]  # fmt: skip

    asyncio.run(scenario())


def test_much_at_once_is_committed_without_delay_and_in_batches(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock(), group_delay=3600.0)
            for n in range(100):
                last = intake.put(ORIGIN, framed(f"{n:06}" + "x" * 10_000))
            intake.put(OTHER, framed("alone"))
            assert last is not None
            await asyncio.wait_for(last, 20)
            batches = await everything(journal)
            assert sum(b.count for b in batches) == 101
            assert [f[:6] for b in batches for f in b.frames.split(b"\n") if b.origin == ORIGIN] == [
                b"%06d" % n for n in range(100)
            ]
            assert max(len(b.frames) for b in batches) < (256 << 10) + 20_000
            await intake.close()

    asyncio.run(scenario())


def test_a_group_waits_for_company_but_not_for_long(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock(), group_delay=0.05)
            loop = asyncio.get_running_loop()
            start = loop.time()
            first = intake.put(ORIGIN, framed("a"))
            await asyncio.sleep(0.01)
            assert intake.put(ORIGIN, framed("b")) is first
            assert first is not None
            await asyncio.wait_for(first, 20)
            assert loop.time() - start >= 0.045
            await intake.close()

    asyncio.run(scenario())


def test_at_the_bound_listeners_stop_and_go_on(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, max_size=1 << 30) as journal:
            intake = Intake(journal, Metrics(), Clock(), bound=1 << 20)
            called: list[int] = []
            while not intake.full:
                intake.put(ORIGIN, framed("x" * 100_000))
            intake.put(ORIGIN, framed("a read that was on its way"))
            for n in range(50):
                intake.when_room(lambda n=n: called.append(n))
            assert called == []
            await until(lambda: not intake.full)
            await until(lambda: len(called) == 50)
            assert called == list(range(50)), "each once, in order"
            intake.when_room(lambda: called.append(99))
            await until(lambda: called[-1] == 99)
            await intake.close()

    asyncio.run(scenario())


def test_only_as_many_listeners_go_on_as_there_is_room_for(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path, max_size=1 << 30) as journal:
            intake = Intake(journal, Metrics(), Clock(), bound=1 << 20)
            most = 0

            def read(n: int) -> None:
                nonlocal most
                intake.put(Origin(str(n), "tcp"), framed("y" * (256 << 10)))
                most = max(most, intake._streams)
                if n < 40:
                    intake.when_room(lambda: read(n + 10))

            while not intake.full:
                intake.put(ORIGIN, framed("x" * 100_000))
            for n in range(10):
                intake.when_room(lambda n=n: read(n))
            await until(lambda: journal.head >= 60)
            await intake.flush()
            assert most < (1 << 20) + 2 * (256 << 10)
            await intake.close()

    asyncio.run(scenario())


def test_streams_and_datagrams_have_a_bound_each(path: Path) -> None:
    """However fast a stream is, datagrams find room, and the other way round."""

    async def scenario() -> None:
        async with opened(path, max_size=1 << 30) as journal:
            intake = Intake(journal, Metrics(), Clock(), bound=1 << 20)
            udp = Origin("192.0.2.1", "udp")
            while not intake.full:
                intake.put(ORIGIN, framed("x" * 100_000))
            assert not intake.full_of_datagrams
            while not intake.full_of_datagrams:
                intake.put(udp, framed("y" * 100_000))
            await intake.flush()
            assert not intake.full
            assert not intake.full_of_datagrams
            while not intake.full_of_datagrams:
                intake.put(udp, framed("z" * 100_000))
            assert not intake.full
            called: list[int] = []
            intake.when_room(lambda: called.append(1))
            await until(lambda: called == [1])
            await intake.close()
            assert intake._streams == intake._datagrams == 0

    asyncio.run(scenario())


def test_an_outage_of_the_journal_loses_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "logguardd")

    async def scenario() -> None:
        async with opened(path) as journal:
            await fill(journal)
            head = journal.head
            metrics = Metrics()
            intake = Intake(journal, metrics, Clock(), bound=1 << 20)
            n = 0
            while not intake.full:
                intake.put(ORIGIN, framed(f"{n} " + "x" * 100_000))
                n += 1
            for _ in range(12):  # more than fits
                last = intake.put(ORIGIN, framed(f"{n} " + "x" * 100_000))
                n += 1
            assert last is not None
            await until(lambda: value(metrics, "logguardd_journal_failures_total") >= 2)
            assert intake.full
            assert not last.done()
            await drain(journal)
            await asyncio.wait_for(asyncio.shield(last), 20)
            assert not intake.full
            found = [int(f.split()[0]) for b in await everything(journal, head) for f in b.frames.split(b"\n")]
            assert found == list(range(n))
            await intake.close()

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], "one line at each end"
    assert "journal full" in caplog.text


def test_what_waits_in_an_outage_is_numbered_as_the_journal_will_number_it(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await fill(journal)
            head, clock = journal.head, Clock()
            intake = Intake(journal, Metrics(), clock)
            assert intake.trouble is None
            last = intake.put(ORIGIN, framed("a" * 3_000_000, "b"))
            await until(intake.stuck.is_set)
            assert "journal full" in str(intake.trouble)
            held = []
            for number in range(5):
                intake.put(OTHER, framed(f"c{number}", "d"))
                last = intake.put(ORIGIN, framed(f"e{number}"))
                clock.now += 20_000
                held += intake.held(held[-1].offset + held[-1].count if held else 0)
            # This one may still grow.
            last = intake.put(ORIGIN, framed("f"))
            assert held == intake.held(0)
            assert [batch.offset for batch in held] == [
                head,
                *(head + 2 + n for n in (0, 2, 3, 5, 6, 8, 9, 11, 12, 14)),
            ]
            await drain(journal)
            assert last is not None
            await asyncio.wait_for(asyncio.shield(last), 20)
            assert not intake.stuck.is_set()
            assert intake.trouble is None
            stored = [batch for batch in await everything(journal, head) if batch.frames != b"f"]
            assert stored == held
            await intake.close()

    asyncio.run(scenario())


def test_closing_writes_what_is_left(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock(), group_delay=3600.0, group_bytes=100_000)
            futures = [intake.put(ORIGIN, framed(f"{n}" + "x" * 30_000)) for n in range(5)]
            await asyncio.sleep(0)
            futures.append(intake.put(ORIGIN, framed("last")))
            await asyncio.wait_for(intake.close(), 20)
            assert all(future is not None and future.done() and not future.cancelled() for future in futures)
            assert journal.head == 7

    asyncio.run(scenario())


def test_flushing_does_not_wait_for_the_delay(path: Path) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            intake = Intake(journal, Metrics(), Clock(), group_delay=3600.0)
            await intake.flush()
            intake.put(ORIGIN, framed("a"))
            await asyncio.wait_for(intake.flush(), 20)
            assert journal.head == 2
            await intake.close()

    asyncio.run(scenario())


def test_closing_in_an_outage_counts_what_is_given_up(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with opened(path) as journal:
            await fill(journal)
            metrics = Metrics()
            intake = Intake(journal, metrics, Clock())
            first = intake.put(ORIGIN, framed("a", "b" * MIN_SIZE))
            await until(lambda: value(metrics, "logguardd_journal_failures_total") >= 1)
            second = intake.put(ORIGIN, framed("c"))
            await intake.close(patience=0.05)
            assert first is not None
            assert second is not None
            assert first.cancelled()
            assert second.cancelled()
            assert value(metrics, "logguardd_dropped_total", reason="journal") == 3
            late = intake.put(ORIGIN, framed("d", "e"))
            assert late is not None
            assert late.cancelled()
            assert value(metrics, "logguardd_dropped_total", reason="shutdown") == 2

    asyncio.run(scenario())
    assert "3 messages given up" in caplog.text
