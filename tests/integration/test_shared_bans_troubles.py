"""Sharing bans while Redis or a daemon is away, and with data in Redis that is nobody's bans."""

from __future__ import annotations

import asyncio
import logging
import time
from ipaddress import ip_network

import pytest

from logguardd.limiter.ban_text import encode
from tests.integration.sharing import Daemon, ban, daemons, until


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
