"""Where bans begin and end: book, blacklist, followers and other daemons in step, servers away or not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from logguardd import enforcer
from logguardd.allowlist import Allowlist
from logguardd.archive.postgres import PostgresArchive
from logguardd.book import BanBook
from logguardd.enforcer import Enforcer
from logguardd.errors import UnavailableError
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Ban

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.servers.postgres import PostgreSQL

NOW = 1_790_000_000 * SECOND
DAY = 86_400 * SECOND


def ban(network: str, port: int = 0, *, seconds: int | None = 600, count: int = 1) -> Ban:
    until = None if seconds is None else NOW + seconds * SECOND
    return Ban(ip_network(network), port, "auth", NOW, until, "six hits", count)


class Others:
    """Stands where the other daemons' exchange does and keeps what it is told."""

    def __init__(self) -> None:
        self.added: list[Ban] = []
        self.removed: list[Ban] = []

    def publish(self, add: Sequence[Ban], remove: Sequence[Ban]) -> None:
        self.added += add
        self.removed += remove


class Scene:
    """An enforcer on a real archive, with a clock that stands still until it is moved."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.archive = PostgresArchive(url, 90 * DAY)
        self.book = BanBook()
        self.followed: list[tuple[list[Ban], list[object]]] = []
        self.others = Others()
        self.metrics = Metrics()
        self.enforcer = Enforcer(
            self.book,
            Allowlist(["198.51.100.0/24"]),
            self.archive,
            self.metrics,
            clock=lambda: self.now,
            follow=lambda add, remove: self.followed.append((list(add), list(remove))),
        )
        self.enforcer.publishers.append(self.others)


def play(url: str, act: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        scene = Scene(url)
        try:
            await act(scene)
        finally:
            await scene.archive.close()

    asyncio.run(run())


BLACKLIST = "SELECT host(ip_address), port, blacklist_count, is_active FROM blacklist ORDER BY 1, 2"


def test_a_ban_reaches_book_followers_others_and_blacklist_once(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        first = ban("203.0.113.5", 22)
        assert scene.enforcer.begin([first]) == [first]
        assert scene.enforcer.begin([replace(first, until=NOW + DAY)]) == []
        await scene.enforcer.store()
        assert scene.followed == [([first], [])]
        assert scene.others.added == [first]
        assert postgres.query(BLACKLIST, url) == [["203.0.113.5", "22", "1", "t"]]
        scene.enforcer.end([first])
        await scene.enforcer.store()
        assert scene.followed[1] == ([], [first.key])
        assert scene.others.removed == [first]
        assert postgres.query(BLACKLIST, url) == [["203.0.113.5", "22", "1", "f"]]

    play(url, act)


@pytest.mark.parametrize("network", ["198.51.100.7", "127.0.0.1", "::1", "0.0.0.0/0", "198.51.0.0/16"])
def test_what_is_protected_is_never_banned_whoever_asks(postgres: PostgreSQL, network: str) -> None:
    async def act(scene: Scene) -> None:
        assert scene.enforcer.begin([ban(network)]) == []
        scene.enforcer.foreign([ban(network)], [])
        scene.enforcer.restore([ban(network)])
        assert scene.followed == []
        assert len(scene.book) == 0
        assert scene.enforcer.protected(ip_network(network)) is not None

    play(postgres.url, act)


def test_bans_of_other_daemons_are_enforced_and_stored_but_not_sent_back(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        theirs = ban("203.0.113.5")
        scene.enforcer.foreign([theirs], [])
        longer = replace(theirs, until=NOW + 900 * SECOND)
        scene.enforcer.foreign([longer], [])
        scene.enforcer.foreign([theirs], [])
        await scene.enforcer.store()
        assert [add for add, _ in scene.followed] == [[theirs], [longer]]
        scene.enforcer.foreign([], [theirs])
        assert scene.followed[-1] == ([], [theirs.key])
        assert scene.others.added == scene.others.removed == []
        await scene.enforcer.store()
        assert postgres.query(BLACKLIST, url) == [["203.0.113.5", "0", "1", "f"]]

    play(url, act)


def test_what_the_blacklist_could_not_take_is_kept_newest_state_first(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        postgres.stop()
        one, two = ban("203.0.113.1"), ban("203.0.113.2")
        scene.enforcer.begin([one, two])
        with pytest.raises(UnavailableError):
            await scene.enforcer.store()
        scene.enforcer.end([one])
        with pytest.raises(UnavailableError):
            await scene.enforcer.store()
        postgres.start()
        await scene.enforcer.store()
        assert postgres.query(BLACKLIST, url) == [["203.0.113.1", "0", "1", "f"], ["203.0.113.2", "0", "1", "t"]]

    play(url, act)


def test_what_waits_for_the_blacklist_is_bounded(postgres: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcer, "UNSAVED", 3)
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        for number in range(5):
            scene.enforcer.begin([ban(f"203.0.113.{number}")])
        assert scene.metrics.registry.get_sample_value("logguardd_dropped_total", {"reason": "ban-unsaved"}) == 2
        await scene.enforcer.store()
        assert [row[0] for row in postgres.query(BLACKLIST, url)] == [f"203.0.113.{number}" for number in (2, 3, 4)]
        assert len(scene.book) == 5

    play(url, act)


def test_expiry_ends_bans_in_the_blacklist_but_leaves_the_kernel_to_itself(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        scene.enforcer.begin([ban("203.0.113.1", seconds=60), ban("203.0.113.2", seconds=None)])
        scene.now += 61 * SECOND
        scene.enforcer.expire()
        await scene.enforcer.store()
        assert len(scene.followed) == 1
        assert postgres.query(BLACKLIST, url) == [["203.0.113.1", "0", "1", "f"], ["203.0.113.2", "0", "1", "t"]]

    play(url, act)


def test_bans_made_without_the_blacklist_are_counted_right_when_it_is_there(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()
    networks = [f"203.0.113.{n}" for n in range(1, 6)]

    async def before(scene: Scene) -> None:
        await scene.archive.open()
        stored = [ban(network, seconds=60, count=3) for network in networks]
        await scene.archive.save_bans(stored)
        await scene.archive.end_bans(stored[4:])

    async def after(scene: Scene) -> None:
        def later(network: str, count: int, seconds: int = 600) -> Ban:
            return replace(ban(network, seconds=2000 + seconds, count=count), since=scene.now)

        scene.now += 1000 * SECOND
        await scene.archive.open()
        # The file beside the journal knew how often, or did not; the last of them was lifted before the end.
        restored = [later(networks[0], 4), later(networks[1], 1), ban(networks[4], seconds=3000, count=3)]
        scene.enforcer.restore(restored)
        scene.now += 1
        # The first two of these ended again before the blacklist came.
        scene.enforcer.begin([later(networks[2], 1, -950), later(networks[3], 1)])
        scene.now += 100 * SECOND
        scene.enforcer.expire()
        scene.enforcer.end([later(networks[3], 1)])
        await scene.enforcer.connected()
        assert {str(held.network.network_address): held.count for held in scene.book.snapshot()} == {
            networks[0]: 4, networks[1]: 4,
        }  # fmt: skip
        assert [scene.book.times(ip_network(network), 0) for network in networks] == [4, 4, 4, 4, 3]
        await scene.enforcer.store()
        assert postgres.query(BLACKLIST, url) == [
            [networks[0], "0", "4", "t"], [networks[1], "0", "4", "t"],
            [networks[2], "0", "4", "f"], [networks[3], "0", "4", "f"], [networks[4], "0", "3", "f"],
        ]  # fmt: skip

    play(url, before)
    play(url, after)


def test_the_blacklist_is_taken_over_at_the_first_connection(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def before(scene: Scene) -> None:
        await scene.archive.open()
        await scene.archive.save_bans([ban("203.0.113.1", count=3), ban("203.0.113.2", seconds=1), ban("198.51.100.9")])

    async def after(scene: Scene) -> None:
        scene.now += 10 * SECOND
        await scene.archive.open()
        # Made while the blacklist was away, and restored from the file beside the journal.
        scene.enforcer.begin([ban("203.0.113.3")])
        scene.enforcer.restore([ban("203.0.113.1"), ban("203.0.113.4")])
        await scene.enforcer.connected()
        assert {str(held.network.network_address): held.count for held in scene.book.snapshot()} == {
            "203.0.113.1": 3, "203.0.113.3": 1, "203.0.113.4": 1,
        }  # fmt: skip
        assert scene.book.times(ip_network("203.0.113.2"), 0) == 1
        await scene.enforcer.store()
        assert postgres.query(BLACKLIST, url) == [
            ["198.51.100.9", "0", "1", "f"],
            ["203.0.113.1", "0", "3", "t"],
            ["203.0.113.2", "0", "1", "f"],
            ["203.0.113.3", "0", "1", "t"],
            ["203.0.113.4", "0", "1", "t"],
        ]

    play(url, before)
    play(url, after)


def test_an_unban_while_the_blacklist_is_away_outlives_a_restart(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()
    unbanned, before, again, held = (ban(f"203.0.113.{n}", count=n) for n in (1, 2, 3, 4))

    async def first(scene: Scene) -> None:
        await scene.archive.open()
        scene.enforcer.begin([unbanned, before, again, held])
        await scene.enforcer.store()
        postgres.stop()
        scene.enforcer.end([unbanned, again])
        scene.now += SECOND
        scene.enforcer.begin([replace(again, since=scene.now)])
        with pytest.raises(UnavailableError):
            await scene.enforcer.store()
        assert scene.enforcer.lifted() == [unbanned]

    async def second(scene: Scene) -> None:
        scene.now += 2 * SECOND
        scene.enforcer.restore([before, held], [unbanned])
        scene.enforcer.end([before])
        assert scene.enforcer.lifted() == [unbanned, before]
        postgres.start()
        await scene.archive.open()
        await scene.enforcer.connected()
        assert sorted(held.count for held in scene.book.snapshot()) == [3, 4]
        assert scene.book.times(unbanned.network, 0) == 1
        await scene.enforcer.store()
        assert scene.enforcer.lifted() == []
        assert postgres.query(BLACKLIST, url) == [
            ["203.0.113.1", "0", "1", "f"], ["203.0.113.2", "0", "2", "f"],
            ["203.0.113.3", "0", "3", "t"], ["203.0.113.4", "0", "4", "t"],
        ]  # fmt: skip

    play(url, first)
    play(url, second)


def test_what_is_lifted_is_known_while_it_is_on_its_way(postgres: PostgreSQL) -> None:
    url = postgres.fresh_database()

    async def act(scene: Scene) -> None:
        await scene.archive.open()
        scene.enforcer.begin([ban("203.0.113.1")])
        await scene.enforcer.store()
        scene.enforcer.end([ban("203.0.113.1")])
        storing = asyncio.create_task(scene.enforcer.store())
        await asyncio.sleep(0)
        assert scene.enforcer.lifted() == [ban("203.0.113.1")]
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)
        assert scene.enforcer.lifted() == [ban("203.0.113.1")]

    play(url, act)
