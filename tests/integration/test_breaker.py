"""The breaker with a real Redis that is stopped, hangs, fills up, and comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from logguardd.limiter.breaker import Breaker
from logguardd.limiter.memory import MemoryLimiter
from logguardd.limiter.redis import RedisLimiter
from logguardd.metrics import Metrics
from tests.integration.limiters import T, tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from logguardd.records import Verdict
    from tests.servers.redis import Redis


class Fixture:
    """A breaker with its metrics."""

    def __init__(self, url: str) -> None:
        self.metrics = Metrics()
        redis, memory = RedisLimiter(url, self.metrics), MemoryLimiter(metrics=self.metrics)
        self.breaker = Breaker(redis, memory, self.metrics, probes=(0.2, 1.0))
        self.counted = 0

    async def hit(self) -> Verdict:
        self.counted += 1
        return (await self.breaker.count([tally((T + self.counted, f"j:{self.counted}"), threshold=100)]))[0]

    async def state(self, wanted: str, *, within: float = 15) -> None:
        deadline = time.monotonic() + within
        while self.breaker.state != wanted:
            assert time.monotonic() < deadline, f"{self.breaker.state}, not {wanted}"
            await asyncio.sleep(0.01)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"logguardd_limiter_{name}", labels) or 0


@asynccontextmanager
async def breaking(server: Redis) -> AsyncIterator[Fixture]:
    made = Fixture(server.url)
    try:
        yield made
    finally:
        await made.breaker.close()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "logguardd")


def test_redis_counts_while_it_is_there(redis_server):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            assert [(await fixture.hit()).hits for _ in range(3)] == [1, 2, 3]
            assert fixture.breaker.state == "closed"
            assert fixture.breaker.trouble is None
            assert fixture.metric("calls_total", limiter="redis") == 3
            assert fixture.metric("calls_total", limiter="memory") == 0
            assert fixture.metric("breaker_open") == 0

    asyncio.run(run())
    assert redis_server.command("ZCARD", "logguardd:hits:k") == "3"


def test_stopped_and_started_under_load(redis_server, caplog):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            assert (await fixture.hit()).hits == 1
            redis_server.stop()
            # Not one batch is lost: those that fail are counted in memory, from the first on.
            assert [(await fixture.hit()).hits for _ in range(5)] == [1, 2, 3, 4, 5]
            assert fixture.breaker.state in {"open", "half-open"}
            assert "127.0.0.1" in str(fixture.breaker.trouble)
            assert fixture.metric("breaker_open") == 1
            assert fixture.metric("failures_total") >= 1
            began = time.monotonic()
            for _ in range(200):
                await fixture.hit()
            assert time.monotonic() - began < 0.5
            redis_server.start()
            await fixture.state("closed")
            assert fixture.breaker.trouble is None
            assert fixture.metric("breaker_open") == 0
            # This Redis keeps nothing over a restart.
            assert (await fixture.hit()).hits == 1
            redis_server.stop()
            for _ in range(3):
                await fixture.hit()
            await fixture.state("open")
            redis_server.start()
            await fixture.state("closed")

    asyncio.run(run())
    lines = [record.message for record in caplog.records if "limiter" in record.message]
    assert len(lines) == 4, lines
    assert all("counted in memory until it is back" in line for line in lines[::2])
    assert all("Redis is back after" in line for line in lines[1::2])


def test_a_hanging_redis_costs_one_wait(redis_server):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            await fixture.hit()
            os.kill(redis_server.child.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                await fixture.hit()
                assert 0.2 < time.monotonic() - began < 1.5
                # From now on nobody waits, whatever the probes are waiting for.
                longest = 0.0
                while time.monotonic() - began < 3:
                    before = time.monotonic()
                    await fixture.hit()
                    longest = max(longest, time.monotonic() - before)
                    await asyncio.sleep(0.02)
                assert longest < 0.2
                assert fixture.breaker.state in {"open", "half-open"}
            finally:
                os.kill(redis_server.child.pid, signal.SIGCONT)
            await fixture.state("closed")

    asyncio.run(run())


@pytest.mark.parametrize("trouble", ["full", "replica"])
def test_a_redis_that_answers_but_does_not_write_stays_out(redis_server, trouble):
    break_it, mend_it = {
        "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    }[trouble]

    async def run() -> None:
        async with breaking(redis_server) as fixture:
            await fixture.hit()
            redis_server.command(*break_it)
            try:
                for _ in range(3):
                    await fixture.hit()
                failures = fixture.metric("failures_total")
                # Two probes, neither of which is content with a PONG.
                deadline = time.monotonic() + 10
                while fixture.metric("failures_total") < failures + 2:
                    assert fixture.breaker.state != "closed"
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
            finally:
                redis_server.command(*mend_it)
            await fixture.state("closed")
            assert (await fixture.hit()).hits == 2

    asyncio.run(run())


def test_a_restart_between_two_batches_does_not_open_it(redis_server, caplog):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            for _ in range(3):
                await fixture.hit()
                redis_server.stop()
                redis_server.start()
            await fixture.hit()
            assert fixture.breaker.state == "closed"
            assert fixture.metric("failures_total") == 0

    asyncio.run(run())
    assert not [record for record in caplog.records if "limiter" in record.message]


def test_the_first_batch_that_fails_opens_it(redis_server):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            redis_server.stop()
            assert (await fixture.hit()).hits == 1
            assert fixture.breaker.state == "open"
            assert fixture.metric("breaker_open") == 1
            assert str(fixture.breaker.trouble).endswith(": Connection refused")
            redis_server.start()
            await fixture.state("closed")

    asyncio.run(run())


def test_what_is_forgotten_while_redis_is_away_is_forgotten_afterwards(redis_server):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            await fixture.hit()
            await fixture.breaker.forget([tally(key="k").key])
            assert (await fixture.hit()).hits == 1
            redis_server.command("REPLICAOF", "127.0.0.1", "1")
            try:
                await fixture.breaker.forget([tally(key="k").key])
                assert fixture.breaker.state == "open"
            finally:
                redis_server.command("REPLICAOF", "NO", "ONE")
            await fixture.state("closed")
            assert redis_server.command("EXISTS", "logguardd:hits:k") == "0"
            await fixture.hit()
            redis_server.command("REPLICAOF", "127.0.0.1", "1")
            try:
                for _ in range(3):
                    await fixture.hit()
                await fixture.breaker.forget([tally(key="k").key])
            finally:
                redis_server.command("REPLICAOF", "NO", "ONE")
            await fixture.state("closed")
            assert redis_server.command("EXISTS", "logguardd:hits:k") == "0"

    asyncio.run(run())


def test_it_can_be_closed_at_any_moment(redis_server):
    async def run() -> None:
        async with breaking(redis_server) as fixture:
            redis_server.stop()
            for _ in range(3):
                await fixture.hit()
            await fixture.state("open")
        assert {task.get_name() for task in asyncio.all_tasks()} <= {asyncio.current_task().get_name()}

    asyncio.run(run())
