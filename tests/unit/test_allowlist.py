from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest

from logguardd.allowlist import SENDER_TIME, Allowlist
from logguardd.records import SECOND

T = 1_790_000_000 * SECOND


def reason(allowlist: Allowlist, network: str, now: int = T) -> str | None:
    return allowlist.reason(ip_network(network), now)


@pytest.fixture
def allowlist() -> Allowlist:
    return Allowlist(
        [ip_network("198.51.100.0/24"), ip_network("198.51.100.128/25"), ip_network("2001:db8:1::/48"), "192.0.2.7"],
        own=["203.0.113.1", IPv6Address("2001:db8:2::1"), "fe80::1%eth0"],
        gateways=[IPv4Address("203.0.113.254")],
        infrastructure=["203.0.113.10", "::ffff:203.0.113.11"],
    )


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("198.51.100.0", "allowlist"),
        ("198.51.100.77", "allowlist"),
        ("198.51.100.255", "allowlist"),
        ("198.51.101.0", None),
        ("198.51.99.255", None),
        ("192.0.2.7", "allowlist"),
        ("192.0.2.8", None),
        ("2001:db8:1:ffff::1", "allowlist"),
        ("2001:db8:1:5::/64", "allowlist"),
        ("2001:db8:3::/64", None),
        ("203.0.113.1", "own address"),
        ("203.0.113.254", "gateway"),
        ("203.0.113.10", "infrastructure"),
        ("203.0.113.11", "infrastructure"),
        ("::ffff:203.0.113.10", "infrastructure"),
        # What contains something protected.
        ("2001:db8:2::/64", "own address"),
        ("2001:db8:2:1::/64", None),
        ("2001:db8::/32", "allowlist"),
        ("192.0.2.0/29", "allowlist"),
        ("192.0.2.8/29", None),
        ("203.0.113.0/24", "own address"),
        ("0.0.0.0/0", "allowlist"),
        ("::/0", "allowlist"),
    ],
)
def test_protected_networks(allowlist, network, expected):
    assert reason(allowlist, network) == expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.7.7", "link-local"),
        ("fe80::1", "link-local"),
        ("febf::/64", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "broadcast"),
        ("128.0.0.0/1", "link-local"),
        ("0.0.0.0/0", "unspecified"),
        ("240.0.0.1", None),
        ("10.0.0.1", None),
        ("fd00::1", None),
    ],
)
def test_addresses_that_are_nobodys_are_always_protected(network, expected):
    assert reason(Allowlist([]), network) == expected


def test_text_that_is_no_network_is_an_error_and_changes_nothing(allowlist):
    with pytest.raises(ValueError, match="nonsense"):
        allowlist.protect([], own=["nonsense"])
    assert reason(allowlist, "198.51.100.1") == "allowlist"


def test_protecting_anew_keeps_the_senders(allowlist):
    allowlist.saw_sender("192.0.2.99", T)
    allowlist.protect(["10.0.0.0/8"])
    assert reason(allowlist, "198.51.100.1") is None
    assert reason(allowlist, "10.1.2.3") == "allowlist"
    assert reason(allowlist, "192.0.2.99") == "sender"


def test_senders_are_protected_until_a_day_after_their_last_message():
    allowlist = Allowlist([])
    allowlist.saw_sender("192.0.2.1", T)
    allowlist.saw_sender("2001:db8::7", T)
    assert reason(allowlist, "192.0.2.1", T + SENDER_TIME - 1) == "sender"
    assert reason(allowlist, "192.0.2.1", T + SENDER_TIME) is None
    allowlist.saw_sender("192.0.2.1", T + SENDER_TIME)
    assert reason(allowlist, "192.0.2.1", T + SENDER_TIME + 1) == "sender"
    assert reason(allowlist, "2001:db8::/64", T) == "sender"
    assert reason(allowlist, "2001:db8:0:1::/64", T) is None
    assert reason(allowlist, "192.0.2.0/24", T) == "sender"
    assert reason(allowlist, "192.0.2.2", T) is None


def test_what_contains_an_idle_and_a_live_sender_is_protected():
    allowlist = Allowlist([])
    allowlist.saw_sender("2001:db8::1", T)
    allowlist.saw_sender("2001:db8::2", T + SENDER_TIME)
    assert reason(allowlist, "2001:db8::/64", T + SENDER_TIME + 1) == "sender"


def test_the_first_senders_to_come_stay():
    allowlist = Allowlist([], max_senders=3)
    for number in range(10):
        allowlist.saw_sender(f"192.0.2.{number}", T + number)
    assert [n for n in range(10) if reason(allowlist, f"192.0.2.{n}", T + 20)] == [0, 1, 2]
    # Only once one of them is idle another takes its place.
    later = T + SENDER_TIME - 1
    allowlist.saw_sender("192.0.2.0", later)
    allowlist.saw_sender("192.0.2.2", later)
    allowlist.saw_sender("192.0.2.9", later)
    allowlist.saw_sender("192.0.2.9", later + 2)
    allowlist.saw_sender("192.0.2.8", later + 2)
    assert [n for n in range(10) if reason(allowlist, f"192.0.2.{n}", later + 3)] == [0, 2, 9]


def test_senders_without_an_address_are_nobody():
    allowlist = Allowlist([], max_senders=1)
    for peer in ("", "unix", "/run/socket", "192.0.2.300"):
        allowlist.saw_sender(peer, T)
    allowlist.saw_sender("fe80::1%eth0", T)
    assert reason(Allowlist([]), "192.0.2.1") is None
    assert len(allowlist._senders) == 1


def test_one_address_in_two_spellings_is_one_sender():
    allowlist = Allowlist([], max_senders=2)
    allowlist.saw_sender("192.0.2.1", T)
    allowlist.saw_sender("::ffff:192.0.2.1", T + SENDER_TIME)
    allowlist.saw_sender("192.0.2.2", T)
    assert reason(allowlist, "192.0.2.1", T + SENDER_TIME + 1) == "sender"
    assert reason(allowlist, "192.0.2.2", T) == "sender"


def test_very_many_networks_against_the_plain_definition():
    chance = random.Random(7)
    given = [IPv4Network((chance.getrandbits(32), chance.randrange(9, 33)), strict=False) for _ in range(2_000)]
    given = [network for network in given if 20 <= network.network_address.packed[0] < 120]
    allowlist = Allowlist(given)
    for _ in range(300):
        asked = IPv4Network((chance.randrange(20 << 24, 120 << 24), chance.choice((32, 32, 24, 16))), strict=False)
        assert (reason(allowlist, str(asked)) is not None) == any(asked.overlaps(network) for network in given)


def test_a_hundred_thousand_networks_are_as_fast_as_one():
    given = [IPv4Network((0x0B000000 + n * 256, 25)) for n in range(100_000)]
    allowlist = Allowlist(given)
    asked = [IPv4Network(0x0B000000 + n * 128) for n in range(0, 200_000, 20)]
    # 10,000 questions; going through the list for each would take minutes.
    assert sum(allowlist.reason(one, T) == "allowlist" for one in asked) == len(asked)
    assert allowlist.reason(IPv4Network(0x0B000080), T) is None
