"""The blacklist in both archives: bans saved, loaded, ended; the first time and the count kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from logguardd.records import SECOND, Ban
from tests.integration.archives import NOW, Kind

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * SECOND
EVIDENCE = {"rules": ["sshd-failed-password"], "senders": ["web1", "web2"], "hits": 6, "message": "Failed ünï 😀"}


@pytest.fixture(params=["postgres", "sqlite"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "postgres":
        return Kind("postgres", request.getfixturevalue("postgres").fresh_database())
    return Kind("sqlite", str(tmp_path / "archive.db"))


def ban(network: str, port: int = 0, since: int = NOW, until: int | None = NOW + HOUR, **fields: object) -> Ban:
    return Ban(ip_network(network), port, "auth", since, until, "6 failed logins in 5m", **fields)


def test_bans_come_back_as_they_went_newest_last(kind: Kind) -> None:
    bans = [
        ban("203.0.113.5", evidence=EVIDENCE),
        ban("203.0.113.5", port=22, since=NOW + 1, count=3),
        ban("2001:db8:1:2::/64", since=NOW + 2, until=None),
        ban("198.51.100.0/24", port=443, since=NOW + 3, until=NOW + 1_234_567),
        ban("0.0.0.0/0", since=NOW + 4),
        ban("::", since=NOW + 5),
    ]

    async def scenario() -> None:
        async with kind.opened() as archive:
            assert await archive.load_bans(100) == []
            await archive.save_bans([])
            await archive.end_bans([])
            await archive.save_bans(list(reversed(bans)))
        async with kind.opened() as archive:
            assert await archive.load_bans(100) == bans
            assert await archive.load_bans(2) == bans[-2:]

    asyncio.run(scenario())


def test_a_ban_that_comes_back_keeps_its_first_time(kind: Kind) -> None:
    first = ban("203.0.113.5", since=NOW - HOUR, until=NOW - HOUR + 5)
    again = replace(first, since=NOW, until=NOW + HOUR, count=2, reason="again", jail="flood")

    async def scenario() -> None:
        async with kind.opened() as archive:
            await archive.save_bans([first])
            await archive.end_bans([first])
            await archive.save_bans([again])
            assert await archive.load_bans(10) == [again]
            # From a daemon that knows nothing of the bans before.
            await archive.save_bans([replace(again, count=1)])
            assert await archive.load_bans(10) == [again]
        (row,) = await kind.query(
            "SELECT first_blacklisted_at < last_blacklisted_at, blacklist_count, reason, is_active FROM blacklist"
        )
        assert row == (True, 2, "again", True)

    asyncio.run(scenario())


def test_an_ended_ban_is_in_force_at_no_time(kind: Kind) -> None:
    lifted = ban("203.0.113.5", count=4, evidence=EVIDENCE)
    forever = ban("203.0.113.6", since=NOW + 1, until=None)
    expired = ban("203.0.113.7", since=NOW - HOUR, until=NOW - 1)
    standing = ban("203.0.113.8", since=NOW + 2)

    async def scenario() -> None:
        async with kind.opened() as archive:
            await archive.save_bans([lifted, forever, expired, standing])
            await archive.end_bans([lifted, forever, expired])
            found = await archive.load_bans(10)
            assert found == [expired, replace(lifted, until=NOW), replace(forever, until=NOW + 1), standing]
            assert [b.active(NOW + 2) for b in found] == [False, False, False, True]
        assert await kind.query("SELECT count(*) FROM blacklist WHERE is_active") == [(1,)]

    asyncio.run(scenario())


def test_an_older_ending_does_not_end_a_newer_ban(kind: Kind) -> None:
    old = ban("203.0.113.5", port=22)
    new = replace(old, since=NOW + 5, count=2)

    async def scenario() -> None:
        async with kind.opened() as archive:
            await archive.save_bans([new])
            await archive.end_bans([old, replace(old, port=0), ban("192.0.2.77")])
            assert await archive.load_bans(10) == [new]

    asyncio.run(scenario())


def test_retention_forgets_bans_that_are_long_over(kind: Kind) -> None:
    old = NOW - 100 * 24 * HOUR
    over = ban("203.0.113.1", since=old, until=old + HOUR)
    lifted = ban("203.0.113.2", since=old, until=None)
    forever = ban("203.0.113.3", since=old + 1, until=None)
    long = ban("203.0.113.4", since=old + 2, until=NOW + HOUR)
    recent = ban("203.0.113.5", since=NOW - HOUR, until=NOW - HOUR + 1)

    async def scenario() -> None:
        async with kind.opened(retention=90 * 24 * HOUR) as archive:
            await archive.save_bans([over, lifted, forever, long, recent])
            await archive.end_bans([lifted])
            await archive.maintain(NOW)
            assert await archive.load_bans(10) == [forever, long, recent]

    asyncio.run(scenario())


def test_hostile_evidence_is_stored(kind: Kind) -> None:
    evil = "\0 \udc80 \\u0000 \"'; -- 😀 \x01"
    made = replace(
        ban("203.0.113.5", evidence={evil: [evil, {"x": evil}], "n": 1.5, "t": ("a",)}), reason=evil, jail=evil
    )

    async def scenario() -> None:
        async with kind.opened() as archive:
            await archive.save_bans([made])
            (found,) = await archive.load_bans(10)
            shown = "\\x00 \\udc80 \\u0000 \"'; -- 😀 \x01"
            assert (found.reason, found.jail) == (shown, shown)
            assert found.evidence == {shown: [shown, {"x": shown}], "n": 1.5, "t": ["a"]}

    asyncio.run(scenario())


def test_many_bans_at_once_from_two_daemons(kind: Kind) -> None:
    bans = [ban(f"10.{n // 250}.{n % 250}.1", since=NOW + n) for n in range(1000)]

    async def scenario() -> None:
        async with kind.opened() as first, kind.opened() as second:
            await asyncio.gather(first.save_bans(bans), second.save_bans(bans[::-1]), first.end_bans(bans[:500]))
            await second.end_bans(bans[:500])
            found = await first.load_bans(2000)
            assert [b.network for b in found] == [b.network for b in bans]
            assert sum(b.active(NOW + 1000) for b in found) == 500

    asyncio.run(scenario())
