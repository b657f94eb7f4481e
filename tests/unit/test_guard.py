"""What a follower never bans, whatever it is told."""

from ipaddress import ip_address, ip_network

import pytest

from logguardd.firewall.guard import Guard


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("127.0.0.0/8", "loopback"),
        ("126.0.0.0/7", "wider than /8"),
        ("0.0.0.0/0", "wider than /8"),
        ("::/0", "wider than /16"),
        ("2000::/15", "wider than /16"),
        ("::1", "loopback"),
        ("::/16", "loopback"),
        ("::", "no peer's address"),
        ("0.0.0.0", "no peer's address"),
        ("224.0.0.251", "no peer's address"),
        ("255.255.255.255", "no peer's address"),
        ("ff02::1", "no peer's address"),
        ("192.0.2.1", "own address"),
        ("192.0.2.0/24", "own address"),
        ("192.0.0.0/8", "own address"),
        ("192.0.2.254", "default gateway"),
        ("2001:db8::1", "own address"),
        ("2001:db8::/64", "own address"),
        ("198.51.100.7", "named by --never"),
        ("198.51.0.0/16", "named by --never"),
        ("2001:db8:ffff::/128", "named by --never"),
        ("240.0.0.1", None),
        ("192.0.2.2", None),
        ("192.0.2.2/31", None),
        ("198.51.101.0/24", None),
        ("203.0.0.0/8", None),
        ("2001:db8:0:1::/64", None),
        ("2002::/16", None),
    ],
)
def test_reasons(network, reason):
    guard = Guard([ip_network("198.51.100.0/24"), ip_network("2001:db8:ffff::/48")])
    own = [ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    assert guard.protect(own, [ip_address("192.0.2.254")])
    assert guard.reason(ip_network(network)) == reason


def test_addresses_of_the_host_come_and_go():
    guard = Guard()
    first, second = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    assert guard.protect([first], [])
    assert not guard.protect([first], [])
    assert guard.protect([second], [])
    assert guard.reason(ip_network(first)) is None
    assert guard.reason(ip_network(second)) == "own address"
    assert guard.protect([], [second])
    assert guard.reason(ip_network(second)) == "default gateway"
