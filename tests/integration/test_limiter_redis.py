"""What only the limiter on Redis can do, and how it is reached."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from logguardd.errors import UnavailableError
from logguardd.limiter import GRACE
from logguardd.limiter.redis import RedisLimiter
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Verdict
from tests.integration.limiters import WINDOW, T, judged, tally, with_limiter
from tests.servers.certificates import Authority
from tests.servers.process import free_port
from tests.servers.redis import Redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.limiter import Limiter


@pytest.fixture
def limiter(redis_server: Redis) -> Callable[[], RedisLimiter]:
    return lambda: RedisLimiter(redis_server.url)


def test_a_key_is_bounded_and_expires(limiter, redis_server):
    judged(limiter, [tally(*[(T, f"j:{n}") for n in range(500)]), tally((T, "j:1"), key="single")])
    for number in range(10):
        judged(limiter, [tally((T + number, f"j:9{number}"))])
    assert redis_server.command("ZCARD", "logguardd:hits:k") == "3"
    for key in ("k", "single"):
        life = int(redis_server.command("PTTL", f"logguardd:hits:{key}"))
        assert 0 < life - (WINDOW + GRACE) // 1000 + 5_000 <= 5_000


def test_times_keep_every_digit(limiter, redis_server):
    judged(limiter, [tally((T + 123_457, "j:1"))], [tally((T + 123_457, "j:2"), (T + 123_459, "j:3"), key="b")])
    scores = [redis_server.command("ZSCORE", f"logguardd:hits:{key}", f"j:{n}") for key, n in (("k", 1), ("b", 3))]
    assert [float(score) for score in scores] == [T + 123_457, T + 123_459]


def test_marks_from_before_all_that_is_kept_do_not_prolong_it(limiter, redis_server):
    # After the clock has been set back an hour, what was counted before must not last until it catches up.
    judged(limiter, [tally(*[(T + 3600 * SECOND + n, f"j:{n}") for n in range(3)])])
    redis_server.command("PEXPIRE", "logguardd:hits:k", "20000")
    judged(limiter, [tally((T, "j:4"))], [tally((T, "j:5"), (T + 1, "j:6"))])
    assert int(redis_server.command("PTTL", "logguardd:hits:k")) <= 20_000


def test_a_batch_larger_than_a_call(limiter):
    batch = [tally(*[(T + n, f"j:{n}") for n in range(number % 9 + 1)], key=str(number)) for number in range(2000)]
    first, second = judged(limiter, batch, batch)
    assert first == second == [Verdict(2 if number % 9 >= 2 else -1, min(number % 9 + 1, 3)) for number in range(2000)]


def test_one_key_twice_in_a_batch_is_counted_in_order(limiter):
    batch = [tally((T, "j:1"), (T, "j:2")), tally((T, "j:3")), tally((T, "j:4"), (T, "j:5"))]
    assert judged(limiter, batch) == [[Verdict(-1, 2), Verdict(0, 3), Verdict(0, 3)]]


def test_a_foreign_key_under_our_name_is_replaced(limiter, redis_server):
    redis_server.command("SET", "logguardd:hits:k", "foreign")
    redis_server.command("SET", "logguardd:hits:b", "foreign")
    assert judged(limiter, [tally((T, "j:1")), tally((T, "j:1"), (T, "j:2"), key="b")]) == [
        [Verdict(-1, 1), Verdict(-1, 2)]
    ]


def test_a_flushed_script_is_sent_again(limiter, redis_server):
    async def use(limiter: Limiter) -> list[Verdict]:
        await limiter.count([tally((T, "j:1"))])
        redis_server.command("SCRIPT", "FLUSH")
        return await limiter.count([tally((T, "j:2"))])

    assert with_limiter(limiter, use) == [Verdict(-1, 2)]


def test_a_restart_between_two_batches_goes_unnoticed(limiter, redis_server):
    async def use(limiter: Limiter) -> list[Verdict]:
        await limiter.count([tally((T, "j:1"))])
        redis_server.stop()
        redis_server.start()
        return await limiter.count([tally((T, "j:2"))])

    assert with_limiter(limiter, use) == [Verdict(-1, 1)]


def test_two_daemons_count_together(redis_server):
    async def run() -> list[Verdict]:
        daemons = [RedisLimiter(redis_server.url) for _ in range(3)]
        try:
            verdicts = await asyncio.gather(
                *(daemon.count([tally((T, f"{n}:1"), (T, f"{n}:2"))]) for n, daemon in enumerate(daemons))
            )
            return [verdict for one in verdicts for verdict in one]
        finally:
            for daemon in daemons:
                await daemon.close()

    verdicts = asyncio.run(run())
    assert sorted(verdicts) == [Verdict(-1, 2), Verdict(0, 3), Verdict(0, 3)]


def test_calls_are_counted(redis_server):
    metrics = Metrics()
    judged(lambda: RedisLimiter(redis_server.url, metrics), [tally((T, "j:1"))], [])
    assert metrics.registry.get_sample_value("logguardd_limiter_calls_total", {"limiter": "redis"}) == 1


def test_a_thousand_keys_are_counted_in_milliseconds(redis_server):
    batches = [[tally((T + n, f"j:{n}:{k}"), key=f"{n}:{k}", threshold=100) for k in range(1000)] for n in range(10)]

    async def use(limiter: Limiter) -> float:
        spent = []
        for batch in batches:
            began = time.perf_counter()
            await limiter.count(batch)
            spent.append(time.perf_counter() - began)
        return min(spent)

    # About 3 ms on an idle machine; the bound only catches what is wrong altogether.
    assert with_limiter(lambda: RedisLimiter(redis_server.url), use) < 0.1


def test_unix_socket(tmp_path):
    server = Redis(tmp_path, "--unixsocket", str(tmp_path / "redis.sock"))
    server.start()
    try:
        url = f"unix://{tmp_path}/redis.sock?db=2"
        assert judged(lambda: RedisLimiter(url), [tally((T, "j:1"))]) == [[Verdict(-1, 1)]]
        assert server.command("-n", "2", "EXISTS", "logguardd:hits:k") == "1"
    finally:
        server.stop()


def test_tls(tmp_path):
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("redis.example")  # and for 127.0.0.1
    port = free_port()
    server = Redis(
        tmp_path, "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
        "--tls-ca-cert-file", str(authority.certificate),
    )  # fmt: skip
    server.start()
    try:
        with pytest.raises(UnavailableError):
            # Redis asks for a certificate of ours.
            judged(
                lambda: RedisLimiter(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.certificate}"),
                [tally((T, "j:1"))],
            )
        own = f"ssl_ca_certs={authority.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
        assert judged(lambda: RedisLimiter(f"rediss://127.0.0.1:{port}/0?{own}"), [tally((T, "j:1"))]) == [
            [Verdict(-1, 1)]
        ]
        with pytest.raises(UnavailableError, match="CERTIFICATE"):
            # The certificate is not for localhost.
            judged(lambda: RedisLimiter(f"rediss://localhost:{port}/0?{own}"), [tally((T, "j:1"))])
        with pytest.raises(UnavailableError, match="CERTIFICATE"):
            # The certificate is not from an authority of the system's.
            judged(lambda: RedisLimiter(f"rediss://127.0.0.1:{port}/0"), [tally((T, "j:1"))])
        lax = f"{own}&ssl_check_hostname=false"
        judged(lambda: RedisLimiter(f"rediss://localhost:{port}/0?{lax}"), [tally((T, "j:1"))])
    finally:
        server.stop()
