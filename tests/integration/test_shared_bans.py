"""Daemons on one Redis see one another's bans, whatever happens to it and to them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from logguardd.limiter.ban_text import encode, name_of
from logguardd.limiter.shared_bans import SharedBans
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Ban

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers.redis import Redis

ADDRESS = "203.0.113.5"


def now() -> int:
    return time.time_ns() // 1000


def ban(network: str = ADDRESS, port: int = 0, seconds: float | None = 600, **changes) -> Ban:
    since = changes.pop("since", now())
    until = None if seconds is None else since + int(seconds * SECOND)
    return Ban(ip_network(network), port, changes.pop("jail", "auth"), since, until, "6 hits", **changes)


class Daemon:
    """One daemon's exchange, and what it was told, as a book would hold it."""

    def __init__(self, url: str, **options: float) -> None:
        self.metrics = Metrics()
        self.exchange = SharedBans(url, self.metrics, **options)
        self.bans: dict[tuple[object, int], Ban] = {}
        self.told: list[Ban] = []
        self.lifted: list[Ban] = []

    def on_change(self, add: list[Ban], remove: list[Ban]) -> None:
        self.told += add
        self.lifted += remove
        self.bans |= {one.key: one for one in add}
        for one in remove:
            self.bans.pop(one.key, None)

    def make(self, *bans: Ban) -> None:
        """Ban, as the detector does."""
        self.bans |= {one.key: one for one in bans}
        self.exchange.publish(bans)

    def lift(self, *bans: Ban) -> None:
        """Unban, as an operator does."""
        for one in bans:
            self.bans.pop(one.key, None)
        self.exchange.publish([], bans)

    def ignored(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("logguardd_shared_bans_ignored_total", {"reason": reason}) or 0


async def until(condition: Callable[[], object], within: float = 15) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def daemons(server: Redis, number: int = 2, **options: float) -> AsyncIterator[list[Daemon]]:
    async with AsyncExitStack() as stack:
        made = [Daemon(server.url, **options) for _ in range(number)]
        for daemon in made:
            stack.push_async_callback(daemon.exchange.stop)
            await daemon.exchange.start(daemon.on_change)
        yield made


def test_a_ban_and_its_end_are_seen_by_the_others_at_once(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 3) as (one, two, three):
            made = ban(evidence={"senders": ["web1"], "hits": 6}, count=3)
            one.make(made, ban("2001:db8::/64", seconds=None))
            await until(lambda: len(two.bans) == len(three.bans) == 2)
            assert two.bans == three.bans == one.bans
            assert two.bans[made.key].evidence == {"senders": ["web1"], "hits": 6}
            began = time.monotonic()
            two.lift(made)
            await until(lambda: made.key not in one.bans and made.key not in three.bans)
            assert time.monotonic() - began < 1
            # Nobody is told of what it did itself.
            assert one.told == []
            assert two.lifted == []

    asyncio.run(run())


def test_a_daemon_that_starts_is_told_what_is_in_force(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            bans = [ban(f"203.0.{n >> 8}.{n & 255}", n % 3) for n in range(2_500)]
            one.make(*bans, ban("198.51.100.1", seconds=0.2))
            await until(lambda: redis_server.command("HLEN", "logguardd:bans") in {"2500", "2501"})
            await asyncio.sleep(0.2)
        async with daemons(redis_server, 1) as (two,):
            await until(lambda: len(two.bans) >= 2_500)
            assert two.bans == {one.key: one for one in bans}

    asyncio.run(run())


def test_the_longer_ban_counts(redis_server):
    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            short, long = ban(seconds=60), ban(seconds=600, jail="flood")
            one.make(short)
            await until(lambda: two.bans)
            two.make(long)
            await until(lambda: one.bans[long.key] == long)
            one.make(short)
            one.make(ban("203.0.113.6"))
            await until(lambda: len(two.bans) == 2)
            assert two.bans[long.key] == long
            assert json.loads(redis_server.command("HGET", "logguardd:bans", f"{ADDRESS}|0"))["jail"] == "flood"

    asyncio.run(run())


def test_an_operator_can_make_a_ban_shorter(redis_server):
    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            forever, shorter = ban(seconds=None), ban(seconds=60)
            one.make(forever)
            await until(lambda: two.bans)
            one.exchange.publish([shorter], [forever])
            await until(lambda: two.bans.get(forever.key) == shorter)

    asyncio.run(run())


def test_redis_stopped_and_started(redis_server, caplog):
    caplog.set_level(logging.INFO, "logguardd")

    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            before, away, lifted = ban(), ban("203.0.113.6"), ban("203.0.113.7")
            one.make(before)
            two.make(lifted)
            await until(lambda: len(one.bans) == len(two.bans) == 2)
            redis_server.stop()
            await until(lambda: one.exchange.trouble and two.exchange.trouble)
            one.make(away)
            one.lift(lifted)
            assert one.bans.keys() == {before.key, away.key}
            # It has lost everything, which is not the same as that everything was unbanned.
            redis_server.start()
            await until(lambda: not one.exchange.trouble and not two.exchange.trouble)
            await until(lambda: two.bans.keys() == {before.key, away.key})
            await until(lambda: redis_server.command("HLEN", "logguardd:bans") == "2")
            assert one.bans.keys() == {before.key, away.key}

    asyncio.run(run())
    lines = [record.message for record in caplog.records]
    assert sum("until it is back" in line for line in lines) == 2
    assert sum("Redis is back" in line for line in lines) == 2


def test_everything_lost_is_published_again_with_the_next_comparison(redis_server):
    async def run() -> None:
        async with daemons(redis_server, compare=0.5) as (one, two):
            one.make(ban())
            await until(lambda: two.bans)
            redis_server.flush()
            await until(lambda: redis_server.command("HLEN", "logguardd:bans") == "1")
            assert two.lifted == []

    asyncio.run(run())


def test_what_was_unbanned_while_a_daemon_was_away_is_not_brought_back(redis_server):
    async def run() -> None:
        made = ban()
        async with daemons(redis_server, 1) as (operator,):
            away = Daemon(redis_server.url)
            away.make(made)
            await away.exchange.start(away.on_change)
            await until(lambda: operator.bans)
            await away.exchange.stop()
            operator.lift(made)
            await until(lambda: redis_server.command("HLEN", "logguardd:bans") == "0")
            # It comes back with the bans it has stored.
            back = Daemon(redis_server.url)
            back.make(made)
            await back.exchange.start(back.on_change)
            try:
                await until(lambda: not back.bans)
                assert redis_server.command("HLEN", "logguardd:bans") == "0"
                # When the address offends again it is banned again.
                again = ban(count=2)
                back.make(again)
                await until(lambda: operator.bans.get(made.key) == again)
                assert back.bans == {made.key: again}
            finally:
                await back.exchange.stop()

    asyncio.run(run())


def test_a_late_unban_does_not_end_a_newer_ban(redis_server):
    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            newer = ban(since=now() + 5 * SECOND)
            two.make(newer)
            await until(lambda: one.bans)
            one.lift(ban())
            one.make(ban("203.0.113.6"))
            await until(lambda: len(two.bans) == 2)
            assert two.bans[newer.key] == newer

    asyncio.run(run())


def test_what_ends_leaves_redis_by_itself(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            one.make(ban(seconds=1), ban("203.0.113.6", seconds=3600))
            await until(lambda: redis_server.command("HLEN", "logguardd:bans") == "2")
            for key in ("logguardd:bans", "logguardd:bans:ends"):
                assert 3_500_000 < int(redis_server.command("PTTL", key)) < 3_700_000
            await until(lambda: now() > one.bans[ip_network(ADDRESS), 0].until)
            one.make(ban("203.0.113.7", seconds=None))
            await until(lambda: redis_server.command("HEXISTS", "logguardd:bans", "203.0.113.7|0") == "1")
            assert redis_server.command("HLEN", "logguardd:bans") == "2"
            assert redis_server.command("TTL", "logguardd:bans") == "-1"
            assert int(redis_server.command("TTL", "logguardd:bans:changes")) > 0

    asyncio.run(run())


@pytest.mark.parametrize("before", [True, False], ids=["found", "told"])
def test_foreign_and_hostile_data_is_ignored(redis_server, before, caplog):
    good = ban("203.0.113.9")
    hostile = {
        "203.0.113.1|0": "not JSON",
        "203.0.113.2|0": encode(ban("203.0.113.3")),
        "203.0.113.4|0": "[" * 8000,
        "203.0.113.5|0": encode(ban(count=1)).replace('"count":1', '"count":1e400'),
        "203.0.113.6|0": "x" * 100_000,
        "0.0.0.0/0|x": "{}",
        "nonsense": "{}",
        "\x1b[2J|0": "{}",
    }

    def spoil() -> None:
        for name, text in hostile.items():
            redis_server.command("HSET", "logguardd:bans", name, text)
            redis_server.command("ZADD", "logguardd:bans:ends", "+inf", name)
            redis_server.command("ZADD", "logguardd:bans:unbanned", "9e15", "nonsense")
            redis_server.command("XADD", "logguardd:bans:changes", "*", "by", "x", "add", name, "remove", f"{name}@x @")
        redis_server.command("XADD", "logguardd:bans:changes", "*", "hello", "world")
        redis_server.command("XADD", "logguardd:bans:changes", "*", "by", "x", "add", "y" * 70_000)

    async def run() -> None:
        if before:
            spoil()
        async with daemons(redis_server, compare=0.5) as (one, two):
            if not before:
                one.make(ban("203.0.113.8"))
                await until(lambda: two.bans)
                await asyncio.to_thread(spoil)
            one.make(good)
            await until(lambda: good.key in two.bans)
            await until(lambda: two.ignored("ban") >= 5 and two.ignored("name") >= 3)
            if not before:
                await until(lambda: two.ignored("change") >= 2)
            assert {one.network for one in two.told} <= {good.network, ip_network("203.0.113.8")}
            assert two.exchange.trouble is None

    asyncio.run(run())
    lines = [record.message for record in caplog.records if "ignored" in record.message]
    assert 1 <= len(lines) <= 2
    assert all(line.isprintable() for line in lines)


def test_foreign_keys_under_our_names_do_no_harm(redis_server):
    redis_server.command("SET", "logguardd:bans", "foreign")

    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            one.make(ban())
            await until(lambda: one.exchange.trouble)
            redis_server.command("DEL", "logguardd:bans")
            await until(lambda: two.bans)
            await until(lambda: not one.exchange.trouble)

    asyncio.run(run())


def test_a_callback_that_fails_ends_nothing(redis_server, caplog):
    async def run() -> None:
        async with daemons(redis_server) as (one, two):
            await until(lambda: two.exchange.trouble is None)
            keep, two.exchange._on_change = two.exchange._on_change, lambda add, remove: 1 // 0
            one.make(ban())
            await until(lambda: "were not taken over" in caplog.text)
            two.exchange._on_change = keep
            one.make(ban("203.0.113.6"))
            await until(lambda: two.bans)

    asyncio.run(run())


def test_without_redis_nothing_waits_and_nothing_fails(redis_server):
    redis_server.stop()

    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            await until(lambda: one.exchange.trouble)
            began = time.monotonic()
            one.make(*[ban(f"203.0.113.{n}") for n in range(200)])
            one.lift(ban("203.0.113.1"))
            assert time.monotonic() - began < 0.1
        assert time.monotonic() - began < 2

    asyncio.run(run())


def test_what_was_made_just_before_the_end_is_published(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            await until(lambda: redis_server.command("CLIENT", "LIST").count("logguardd"))
            one.make(*[ban(f"203.0.113.{n}") for n in range(250)])
        assert redis_server.command("HLEN", "logguardd:bans") == "250"

    asyncio.run(run())


def test_names_are_what_they_are_called_in_redis(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            made = ban("2001:db8::/64", seconds=600)
            one.make(made)
            name = name_of(made.network, 0)
            await until(lambda: redis_server.command("HEXISTS", "logguardd:bans", name) == "1")
            assert float(redis_server.command("ZSCORE", "logguardd:bans:ends", name)) == made.until

    asyncio.run(run())
