"""Own addresses and gateways, as the kernel of a network namespace knows them."""

import json
import socket
import sys

from logguardd import network
from tests.servers.daemon import CHECKOUT

ASK = f"""
import json, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from logguardd import network
print(json.dumps([[str(a) for a in found()] for found in (network.own_addresses, network.default_gateways)]))
"""


def ask(netns):
    own, gateways = json.loads(netns.run(sys.executable, "-c", ASK).stdout)
    return set(own), set(gateways)


def test_a_machine_without_a_network(netns):
    assert ask(netns) == ({"127.0.0.1", "::1"}, set())


def test_addresses_and_gateways(netns):
    for number in (1, 2, 3):
        netns.run("ip", "link", "add", f"d{number}", "type", "veth", "peer", "name", f"p{number}")
        netns.run("ip", "link", "set", f"p{number}", "up")
        netns.run("ip", "link", "set", f"d{number}", "addrgenmode", "none", "up")
        netns.run("ip", "link", "set", f"p{number}", "addrgenmode", "none")
    netns.run("ip", "address", "add", "192.0.2.10/24", "dev", "d1")
    netns.run("ip", "address", "add", "192.0.2.11/24", "dev", "d1")
    netns.run("ip", "address", "add", "2001:db8:1::10/64", "dev", "d1", "nodad")
    netns.run("ip", "address", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "d2")
    netns.run("ip", "address", "add", "203.0.113.10/24", "dev", "d3")
    netns.run("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "10")
    netns.run("ip", "route", "add", "default", "table", "77", "via", "203.0.113.1")
    netns.run("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.99")
    netns.run(
        "ip", "route", "add", "default", "metric", "20",
        "nexthop", "via", "192.0.2.2", "dev", "d1", "nexthop", "via", "203.0.113.2", "dev", "d3",
    )  # fmt: skip
    netns.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    netns.run("ip", "route", "add", "default", "metric", "30", "via", "inet6", "2001:db8:1::2", "dev", "d1")
    netns.run("ip", "route", "add", "blackhole", "default", "metric", "99")
    own, gateways = ask(netns)
    found = {address for address in own if not address.startswith("fe80:")}
    assert found == {
        "127.0.0.1", "::1", "192.0.2.10", "192.0.2.11", "2001:db8:1::10", "198.51.100.1", "203.0.113.10",
    }  # fmt: skip
    assert gateways == {"192.0.2.1", "203.0.113.1", "192.0.2.2", "203.0.113.2", "2001:db8:1::1", "2001:db8:1::2"}


WELCOME = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from logguardd import config
from logguardd.welcome import welcome
print(welcome(config.embedded("/tmp/it")))
"""


def target(netns):
    (line,) = (line for line in netns.run(sys.executable, "-c", WELCOME).stdout.splitlines() if "omfwd" in line)
    return line.split('target="')[1].split('"')[0]


def test_an_embedded_daemon_names_what_others_reach_it_by(netns):
    alone = target(netns)
    assert alone == socket.gethostname()
    netns.run("ip", "link", "add", "d1", "type", "veth", "peer", "name", "p1")
    netns.run("ip", "address", "add", "2001:db8:1::10/64", "dev", "d1", "nodad")
    netns.run("ip", "link", "set", "p1", "up")
    netns.run("ip", "link", "set", "d1", "up")
    netns.run("ip", "-6", "route", "add", "default", "dev", "d1")
    assert target(netns) == "2001:db8:1::10"
    netns.run("ip", "address", "add", "198.51.100.1/24", "dev", "d1")
    netns.run("ip", "address", "add", "192.0.2.10/24", "dev", "d1")
    netns.run("ip", "route", "add", "default", "via", "192.0.2.1")
    assert target(netns) == "192.0.2.10"


def test_many_addresses(netns):
    netns.run("ip", "link", "add", "d1", "type", "veth", "peer", "name", "p1")
    batch = "".join(f"address add 10.1.{n // 200}.{n % 200 + 1}/32 dev d1\n" for n in range(1000))
    netns.run("ip", "-batch", "-", stdin=batch)
    own, _ = ask(netns)
    assert len(own) == 1002


def test_resolve():
    found, unknown = network.resolve(["127.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "nowhere.invalid", "", "a" * 300])
    assert [str(address) for address in found] == ["127.0.0.1", "192.0.2.1", "2001:db8::1"]
    assert unknown == ["nowhere.invalid", "", "a" * 300]
