"""A Redis that is away, hangs, is full, is read-only, or none: one error, soon, and nothing is mixed up after it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from logguardd.errors import UnavailableError
from logguardd.limiter.redis import RedisLimiter
from logguardd.records import Verdict
from tests.integration.limiters import T, judged, tally, with_limiter
from tests.servers.process import free_port
from tests.servers.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logguardd.limiter import Limiter


@contextmanager
def fails(what: str) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=what) as error:
        yield
    assert time.monotonic() - began < 3
    assert "secret" not in str(error.value)


def test_nobody_listens():
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    with fails("127.0.0.1"):
        judged(lambda: RedisLimiter(url), [tally((T, "j:1"))])


def test_no_such_socket(tmp_path):
    with fails("none.sock"):
        judged(lambda: RedisLimiter(f"unix://{tmp_path}/none.sock"), [tally((T, "j:1"))])


def test_it_hangs(redis_server):
    async def use(limiter: Limiter) -> list[Verdict]:
        await limiter.count([tally((T, "j:1"))])
        os.kill(redis_server.child.pid, signal.SIGSTOP)
        try:
            with fails("Redis at redis://127.0.0.1"):
                await limiter.count([tally((T, "j:2"))])
        finally:
            os.kill(redis_server.child.pid, signal.SIGCONT)
        # No answer to what timed out is taken for the answer to this.
        return await limiter.count([tally((T, "x:1"), (T, "x:2"), key="other")])

    assert with_limiter(lambda: RedisLimiter(redis_server.url), use) == [Verdict(-1, 2)]


def test_a_cancelled_call_leaves_no_answer_behind(redis_server):
    async def use(limiter: Limiter) -> list[Verdict]:
        await limiter.count([tally((T, "j:1"))])
        os.kill(redis_server.child.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(limiter.count([tally((T, "j:2"))]), 0.1)
        finally:
            os.kill(redis_server.child.pid, signal.SIGCONT)
        return await limiter.count([tally((T, "x:1"), (T, "x:2"), key="other")])

    assert with_limiter(lambda: RedisLimiter(redis_server.url), use) == [Verdict(-1, 2)]


def test_it_is_full(redis_server):
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with fails("maxmemory'$"):
            judged(lambda: RedisLimiter(redis_server.url), [tally((T, "j:1"))])
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    assert judged(lambda: RedisLimiter(redis_server.url), [tally((T, "j:1"))]) == [[Verdict(-1, 1)]]


def test_it_is_a_read_only_replica(redis_server):
    redis_server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    try:
        with fails("read only replica$"):
            judged(lambda: RedisLimiter(redis_server.url), [tally((T, "j:1"))])
    finally:
        redis_server.command("REPLICAOF", "NO", "ONE")


def test_it_wants_a_password(tmp_path):
    server = Redis(tmp_path, "--requirepass", "secret")
    server.command = lambda *words: Redis.command(server, "-a", "secret", *words)
    server.start()
    try:
        address = f"127.0.0.1:{server.port}"
        with fails("(?i)auth"):
            judged(lambda: RedisLimiter(server.url), [tally((T, "j:1"))])
        with fails("(?i)password|auth"):
            judged(lambda: RedisLimiter(f"redis://:wrong@{address}/0"), [tally((T, "j:1"))])
        good = judged(lambda: RedisLimiter(f"redis://:secret@{address}/3"), [tally((T, "j:1"))])
        assert good == [[Verdict(-1, 1)]]
    finally:
        server.stop()


def test_it_is_no_redis():
    async def run() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        limiter = RedisLimiter(f"redis://127.0.0.1:{port}/0")
        try:
            with fails("Redis at"):
                await limiter.count([tally((T, "j:1"))])
        finally:
            await limiter.close()
            server.close()
            await server.wait_closed()

    asyncio.run(run())


def test_it_is_part_of_a_cluster(tmp_path):
    server = Redis(tmp_path, "--cluster-enabled", "yes")
    server.start()
    try:
        with fails("it is part of a Redis Cluster: use a single or replicated Redis$"):
            judged(lambda: RedisLimiter(server.url), [tally((T, "j:1"))])
    finally:
        server.stop()
