"""Daemons on one Redis see one another's bans."""

from __future__ import annotations

import asyncio
import json
import time
from ipaddress import ip_network

from logguardd.limiter.ban_text import name_of
from logguardd.records import SECOND
from tests.integration.sharing import ADDRESS, ban, daemons, now, until


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


def test_names_are_what_they_are_called_in_redis(redis_server):
    async def run() -> None:
        async with daemons(redis_server, 1) as (one,):
            made = ban("2001:db8::/64", seconds=600)
            one.make(made)
            name = name_of(made.network, 0)
            await until(lambda: redis_server.command("HEXISTS", "logguardd:bans", name) == "1")
            assert float(redis_server.command("ZSCORE", "logguardd:bans:ends", name)) == made.until

    asyncio.run(run())
