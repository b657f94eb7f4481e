from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_network

import pytest

from logguardd.book import BanBook, Change
from logguardd.records import SECOND, Ban

T = 1_790_000_000 * SECOND


def ban(network: str = "203.0.113.5", port: int = 0, until: int | None = T + 300 * SECOND, **changes) -> Ban:
    return Ban(ip_network(network), port, changes.pop("jail", "auth"), T, until, "6 hits", **changes)


def test_a_ban_is_made_once():
    book = BanBook()
    assert book.add(ban()) == Change(ban())
    assert book.add(ban(until=T + 900 * SECOND)) is None
    assert book.add(ban(port=22)) == Change(ban(port=22))
    assert book.add(ban("203.0.113.0/24")) is not None
    assert len(book) == 3
    assert book.get(ip_network("203.0.113.5"), 0) == ban()
    assert book.get(ip_network("203.0.113.5"), 80) is None


def test_another_daemons_ban_extends_but_never_shortens():
    book = BanBook()
    book.add(ban(count=3))
    assert book.extend(ban(until=T + 299 * SECOND)) is None
    assert book.extend(ban()) is None
    longer = ban(until=T + 900 * SECOND, jail="flood")
    assert book.extend(longer) == Change(replace(longer, count=3), extended=True)
    assert book.expire(T + 300 * SECOND) == []
    assert book.extend(ban(until=None)).extended
    assert book.extend(longer) is None
    assert book.expire(T + 10**15) == []
    assert book.extend(ban("203.0.113.9")) == Change(ban("203.0.113.9"))


def test_another_daemon_may_know_of_fewer_bans_before():
    book = BanBook()
    book.add(ban(count=3))
    book.expire(T + 300 * SECOND)
    later = replace(ban(until=T + 900 * SECOND), since=T + 600 * SECOND)
    assert book.extend(later).ban.count == 4
    book.remove(later.network, 0, T + 700 * SECOND)
    # The same one, told again.
    assert book.extend(replace(later, count=4)).ban.count == 4


def test_an_operators_ban_takes_the_place_of_any():
    book = BanBook()
    book.add(ban(until=None))
    assert book.replace(ban(until=T + SECOND)) == Change(ban(until=T + SECOND), extended=True)
    assert book.replace(ban(port=1)) == Change(ban(port=1))
    assert book.expire(T + SECOND) == [ban(until=T + SECOND)]
    assert len(book) == 1


def test_bans_expire_in_order_of_their_ends():
    book = BanBook()
    for number in (5, 1, 4, 2, 3):
        book.add(ban(f"203.0.113.{number}", until=T + number * SECOND))
    assert book.expire(T + SECOND - 1) == []
    assert [str(one.network.network_address) for one in book.expire(T + 3 * SECOND)] == [
        "203.0.113.1",
        "203.0.113.2",
        "203.0.113.3",
    ]
    assert len(book) == len(book.snapshot()) == 2


def test_an_extended_ban_does_not_expire_early_and_not_twice():
    book = BanBook()
    book.add(ban())
    book.extend(ban(until=T + 400 * SECOND))
    book.remove(ip_network("203.0.113.5"), 0, T)
    book.add(ban(until=T + 500 * SECOND))
    assert book.expire(T + 499 * SECOND) == []
    assert len(book.expire(T + 600 * SECOND)) == 1
    assert book.expire(T + 600 * SECOND) == []


def test_remove_one_port_or_all():
    book = BanBook()
    for port in (0, 22, 80):
        book.add(ban(port=port))
    book.add(ban("203.0.113.0/24"))
    assert book.remove(ip_network("203.0.113.5"), 22, T + 1) == [ban(port=22)]
    assert book.remove(ip_network("203.0.113.5"), 22, T + 1) == []
    assert book.remove(ip_network("203.0.113.5"), None, T + 1) == [ban(), ban(port=80)]
    assert book.snapshot() == [ban("203.0.113.0/24")]
    assert book.expire(T + 10**15) == [ban("203.0.113.0/24")]
    assert not book._lengths


def test_bans_that_ended_are_remembered_with_their_end():
    book = BanBook(max_past=2)
    for number in (1, 2, 3):
        book.add(ban(f"203.0.113.{number}"))
    book.remove(ip_network("203.0.113.2"), 0, T + 7)
    book.expire(T + 10**12)
    assert book.past() == [ban("203.0.113.1"), ban("203.0.113.3")]
    book.add(ban("203.0.113.1"))
    book.add(ban("203.0.113.4"))
    book.remove(ip_network("203.0.113.4"), None, T + 8)
    assert book.past() == [ban("203.0.113.3"), ban("203.0.113.4", until=T + 8)]


def test_how_often_is_remembered_longer_than_the_ban():
    book = BanBook()
    network = ip_network("203.0.113.5")
    assert book.times(network, 0) == 0
    book.add(ban(count=1))
    book.expire(T + 10**12)
    book.add(ban(count=book.times(network, 0) + 1))
    assert book.times(network, 0) == 2
    assert book.times(network, 22) == 0


def test_history_is_bounded_and_the_longest_unused_goes_first():
    book = BanBook(max_history=3)
    for number in (1, 2, 3, 1, 4):
        book.replace(ban(f"203.0.113.{number}", count=number))
    assert [book.times(ip_network(f"203.0.113.{n}"), 0) for n in (1, 2, 3, 4)] == [1, 0, 3, 4]


def test_load_takes_active_bans_into_force_and_all_into_the_history():
    book = BanBook()
    stored = [ban("203.0.113.1", until=T, count=4), ban("203.0.113.2", count=2), ban("203.0.113.3", until=None)]
    assert book.load(stored, T) == []
    assert book.snapshot() == stored[1:]
    assert book.past() == stored[:1]
    assert [book.times(one.network, 0) for one in stored] == [4, 2, 1]


def test_the_ban_that_ends_first_makes_room():
    book = BanBook(max_active=3)
    for number in (3, 1, 2):
        book.add(ban(f"203.0.113.{number}", until=T + number * SECOND))
    # The new one is not the one to go, though it ends first.
    change = book.add(ban("203.0.113.9", until=T + 1))
    assert change.evicted == ban("203.0.113.1", until=T + SECOND)
    assert book.add(ban("203.0.113.8", until=None)).evicted == ban("203.0.113.9", until=T + 1)
    assert book.extend(ban("203.0.113.8", port=0, until=None)) is None
    assert len(book) == len(book.snapshot()) == 3
    assert [one.network for one in BanBook(max_active=1).load([ban("203.0.113.1"), ban("203.0.113.2")], T)] == [
        ip_network("203.0.113.1")
    ]


def test_bans_for_ever_make_room_too():
    book = BanBook(max_active=2)
    for number in (1, 2):
        book.add(ban(f"203.0.113.{number}", until=None))
    assert book.add(ban("203.0.113.3", until=None)).evicted == ban("203.0.113.1", until=None)


def test_eviction_within_one_network_keeps_the_newcomer():
    book = BanBook(max_active=1)
    book.add(ban(port=22))
    assert book.add(ban(port=80)).evicted == ban(port=22)
    assert book.snapshot() == [ban(port=80)]
    assert book.covers("203.0.113.5", 80) == ban(port=80)


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("203.0.113.5", 0, ban(port=0)),
        ("203.0.113.5", 443, ban(port=0)),
        ("203.0.113.6", 0, None),
        ("203.0.113.6", 22, ban("203.0.113.6", port=22)),
        ("203.0.113.6", 23, None),
        ("198.51.100.77", 0, ban("198.51.100.0/24")),
        ("198.51.101.77", 0, None),
        ("2001:db8::77", 0, ban("2001:db8::/64")),
        ("2001:db8:0:1::77", 0, None),
    ],
)
def test_which_ban_covers_an_address(address, port, expected):
    book = BanBook()
    for one in (ban(), ban("203.0.113.6", port=22), ban("198.51.100.0/24"), ban("2001:db8::/64")):
        book.add(one)
    assert book.covers(address, port) == expected


def test_the_heap_does_not_grow_with_extensions():
    book = BanBook()
    for number in range(10_000):
        book.extend(ban(until=T + number + 1))
    assert len(book._ends) < 2_000
    assert book.expire(T + 9_999) == []
    assert len(book.expire(T + 10_000)) == 1


def test_random_histories_against_a_plain_dictionary():
    chance = random.Random(1)
    book = BanBook()
    plain: dict[tuple[object, int], Ban] = {}
    now = T
    for _ in range(3_000):
        now += chance.randrange(SECOND)
        one = ban(f"203.0.113.{chance.randrange(8)}", chance.choice((0, 22)), now + chance.randrange(1, 5 * SECOND))
        match chance.randrange(4):
            case 0:
                assert (book.add(one) is None) == (one.key in plain)
                plain.setdefault(one.key, one)
            case 1:
                book.extend(one)
                if one.key not in plain or one.until > plain[one.key].until:
                    plain[one.key] = one
            case 2:
                expected = plain.pop(one.key, None)
                assert book.remove(*one.key, now) == ([expected] if expected else [])
            case 3:
                expired = {key: one for key, one in plain.items() if not one.active(now)}
                assert {one.key for one in book.expire(now)} == set(expired)
                plain = {key: one for key, one in plain.items() if key not in expired}
        assert {one.key: one for one in book.snapshot()} == plain
        assert len(book) == len(plain)
