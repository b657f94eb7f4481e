"""One suite over the backends: what is banned is dropped by the kernel, what is not passes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import pytest

from logguardd.errors import FirewallError
from logguardd.firewall.printer import Printer
from logguardd.records import SECOND, Ban
from tests.integration.firewalls import (
    BACKENDS,
    BAD,
    BAD6,
    BEHIND,
    DIALECT,
    FAR,
    GOOD,
    GOOD6,
    HOST4,
    NEAR,
    OTHER6,
    PEERS,
    SUBNET6,
    ban,
    network,
    now,
    world,
)  # fmt: skip
from tests.servers.inside import inside
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.firewalls import World
    from tests.servers.netns import Netns

__all__ = ["network", "world"]  # fixtures


def test_only_what_is_banned_is_dropped(world: World) -> None:
    assert world.passing() == set(PEERS)
    world.sync(ban(BAD), ban(BAD6))
    assert world.passing() == set(PEERS) - {BAD, BAD6}
    assert BAD not in world.passing(80)


def test_a_port_ban_drops_that_port_only(world: World) -> None:
    world.sync()
    world.apply(ban(BAD, 22), ban(BAD6, 22))
    assert world.passing(22) == set(PEERS) - {BAD, BAD6}
    assert world.passing(80) == set(PEERS)


def test_a_port_ban_drops_udp_too(world: World) -> None:
    world.sync(ban(BAD, 53))
    with inside(world.host):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    world.open.append(server)
    server.bind((HOST4, 53))
    server.settimeout(5)
    for source in (BAD, GOOD):
        with inside(world.peers), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((source, 0))
            peer.sendto(source.encode(), (HOST4, 53))
    assert server.recv(100) == GOOD.encode()


def test_prefixes_also_with_ports_and_inside_one_another(world: World) -> None:
    world.sync(ban("10.0.0.0/8"), ban("10.1.0.0/16"), ban(NEAR), ban("2001:db8:7:1::/64"))
    assert world.passing() == {BAD, GOOD, BAD6, GOOD6, OTHER6}
    world.apply(
        ban("10.1.2.0/24", 22), ban("2001:db8:7::/48", 80), remove=(ban("10.0.0.0/8"), ban("10.1.0.0/16"), ban(NEAR))
    )
    assert world.passing(22) == set(PEERS) - {NEAR, SUBNET6}
    assert world.passing(80) == set(PEERS) - {SUBNET6, OTHER6}


def test_established_connections_of_a_banned_address_are_dropped(world: World) -> None:
    world.sync()
    arrived = {}
    for source in (BAD, GOOD):
        peer = world.connect(source)
        assert peer is not None
        server = world.accept(peer)
        server.settimeout(0.5)
        arrived[source] = (peer, server)
    world.apply(ban(BAD))
    for peer, _ in arrived.values():
        peer.send(b"x")
    assert arrived[GOOD][1].recv(1) == b"x"
    with pytest.raises(TimeoutError):
        arrived[BAD][1].recv(1)


def test_forwarded_packets_are_dropped_too(world: World) -> None:
    world.sync()
    assert world.connect(BAD, target=BEHIND)
    world.apply(ban(BAD))
    assert not world.connect(BAD, target=BEHIND)
    assert world.connect(GOOD, target=BEHIND)


def test_reconciling_opens_no_hole(world: World) -> None:
    """While the backend is brought in step again and again, no packet of a banned address passes."""
    world.sync(ban(BAD))
    with inside(world.host):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(world.peers):
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    world.open += [server, peer]
    server.bind((HOST4, 53))
    server.setblocking(False)
    peer.bind((BAD, 0))
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            peer.sendto(b"x", (HOST4, 53))
            sent += 1
            await asyncio.sleep(0)

    async def main() -> None:
        flooding = asyncio.create_task(flood())
        for number in range(8):
            backend = BACKENDS[world.kind](world.recorder)
            await backend.sync([ban(BAD, 0, 300 + 100 * number), ban(f"192.0.2.{number}"), ban("10.0.0.0/8")], now())
        flooding.cancel()

    world.do(main)
    assert sent > 100
    with pytest.raises(BlockingIOError):
        server.recv(1)


def test_what_somebody_flushed_is_noticed_and_put_back(world: World) -> None:
    world.sync(ban(BAD), ban(GOOD))
    assert world.intact()
    if world.kind == "nftables":
        world.host.run("nft", "flush", "ruleset")
        with pytest.raises(FirewallError, match="No such file or directory"):
            world.apply(ban(FAR))
    else:
        world.host.run("iptables", "-F")
    assert not world.intact()
    assert world.passing() == set(PEERS)
    world.sync(ban(BAD), ban(FAR))
    assert world.intact()
    assert world.passing() == set(PEERS) - {BAD, FAR}


FLUSHES = {
    "nftables": (
        "nft flush table inet logguardd",
        "nft flush chain inet logguardd blocked",
        "nft flush chain inet logguardd input",
        "nft flush set inet logguardd banned4",
        "nft delete element inet logguardd nets6_64 { 2001:db8:1:: }",
    ),
    "ipset": (
        "iptables -F LOGGUARDD",
        "ip6tables -D LOGGUARDD 1",
        "iptables -F INPUT",
        "ipset flush logguardd_banned4",
        "ipset del logguardd_banned4_ports 203.0.113.6,udp:22",
    ),
    "iptables": ("iptables -F LOGGUARDD", "ip6tables -F LOGGUARDD", "iptables -D LOGGUARDD 2"),
}


def test_parts_that_somebody_removed_are_noticed_and_put_back(world: World) -> None:
    bans = [ban(BAD), ban(GOOD, 22), ban("2001:db8:1::/64"), ban(FAR, 0, 1)]
    world.sync(*bans)
    for command in FLUSHES[world.kind]:
        assert world.intact(), command
        world.host.run(*command.split())
        assert not world.intact(), command
        world.sync(*bans[:-1])
        assert world.left().keys() == {BAD, f"{GOOD} 22", "2001:db8:1::/64"}, command
        assert not world.connect(BAD)
    assert world.intact()


FOREIGN = {
    "nftables": (
        "nft add element inet logguardd banned4 { 203.0.113.6 timeout 1h }",
        "nft add element inet logguardd banned4 { 203.0.113.6 }",
        "nft add element inet logguardd banned6_ports { 2001:db8:1::6 . 22 }",
    ),
    "ipset": (
        "ipset add logguardd_banned4 203.0.113.6 timeout 3600",
        "ipset add logguardd_banned4 203.0.113.6",
        "ipset add -exist logguardd_banned4 203.0.113.5 timeout 0",
        "ipset add -exist logguardd_banned4 203.0.113.5 timeout 10000",
    ),
}


@pytest.mark.parametrize("world", list(FOREIGN), indirect=True)
def test_foreign_elements_and_timeouts_are_noticed(world: World) -> None:
    for command in FOREIGN[world.kind]:
        bans = [ban(BAD), ban(FAR, 0, None), ban("2001:db8:1::/64"), ban(NEAR, 22, 3_000_000_000), ban(OTHER6, 0, 2)]
        world.sync(*bans)
        assert world.intact(), command
        world.host.run(*command.split())
        assert not world.intact(), command
        world.sync(*bans)
        assert world.intact(), command
        assert world.connect(GOOD)


@pytest.mark.parametrize("world", list(FOREIGN), indirect=True)
def test_a_clock_that_was_set_forward_is_noticed(world: World) -> None:
    world.sync(ban(BAD, 0, 3600), ban(GOOD, 0, 86_400), ban(FAR, 0, None))
    assert world.intact()
    assert not world.intact(later=2 * 3600 * SECOND)


def test_a_foreign_rule_before_ours_is_noticed(world: World) -> None:
    world.sync(ban(BAD))
    if world.kind == "nftables":
        world.host.run("nft", "add", "rule", "inet", "logguardd", "input", "accept")
        world.sync(ban(BAD))
        assert "accept\n" not in world.host.run("nft", "list", "chain", "inet", "logguardd", "input").stdout.replace(
            "policy accept", ""
        )
    else:
        world.host.run("iptables", "-I", "INPUT", "-p", "tcp", "-j", "ACCEPT")
        assert world.connect(BAD)
        assert not world.intact()
        world.sync(ban(BAD))
        assert world.intact()
    assert not world.connect(BAD)


def test_foreign_rules_are_left_alone(world: World) -> None:
    world.host.run(
        "nft",
        "-f",
        "-",
        stdin="table inet mine { chain input { type filter hook input priority 0; tcp dport 80 drop; }; }",
    )
    world.host.run("ip6tables", "-A", "INPUT", "-s", OTHER6, "-j", "DROP")
    world.host.run("ipset", "create", "mine", "hash:ip")
    world.sync(ban(BAD))
    world.do(world.backend.flush)
    assert not world.connect(GOOD, 80)
    assert not world.connect(OTHER6)
    assert "mine" in world.host.run("ipset", "list", "-n").stdout
    left = world.host.run("sh", "-c", "nft list ruleset; iptables-save; ip6tables-save; ipset list -n").stdout
    assert "logguardd" not in left.lower()
    assert world.connect(BAD)
    world.do(world.backend.flush)


def test_a_refused_command_is_reported_with_its_message(world: World) -> None:
    broken = "nft" if world.kind == "nftables" else "ipset"
    if world.kind == "iptables":
        with pytest.raises(FirewallError, match=r"iptables-restore -w 10 --noflush: .*(chain|line)"):
            world.apply(ban(BAD))
        return
    with pytest.raises(FirewallError, match=rf"^{broken} .*(No such file|does not exist)"):
        world.apply(ban(BAD))


def test_print_writes_exactly_what_the_backend_runs(
    world: World, tmp_path: Path, make_netns: Callable[[], Netns]
) -> None:
    output = tmp_path / "commands.sh"
    printer = Printer(str(output), DIALECT[world.kind])
    at = now()
    bans = [
        ban(BAD),
        ban(GOOD, 22),
        ban("10.0.0.0/8"),
        ban("10.1.0.0/16", 80),
        ban(BAD6, 0, None),
        ban("2001:db8:7:1::/64"),
    ]

    async def steps(backend: Any) -> None:
        await backend.sync(bans, at)
        await backend.apply([ban(FAR, 0, 60), ban(BAD, 0, 900)], [bans[1]], at)
        await backend.apply([ban("192.0.2.0/25"), ban(OTHER6, 53)], [bans[2], bans[3]], at)
        await backend.tick(at + 90 * SECOND)
        await backend.flush()
        await backend.sync(bans[:3], at)

    world.do(lambda: steps(world.backend))
    with inside(world.host):
        asyncio.run(steps(printer))
    printed = output.read_text()
    # What the backend asks of the kernel, which jumps are there, the shell asks later.
    without = re.sub(r"^\$\(.*\)\n", "", printed, flags=re.MULTILINE).replace("<<END", "<<'END'")
    assert without == "".join(str(command) for command in world.recorder.commands)

    other, held = make_netns(), world.left()
    world.host = other
    # Also where a script of an earlier printer has been run, or this one already.
    for _ in range(2):
        other.run("sh", "-e", stdin=printed)
        assert world.left().keys() == held.keys() == {BAD, f"{GOOD} 22", "10.0.0.0/8"}
        if world.kind != "nftables":
            for program in ("iptables", "ip6tables"):
                rules = other.run(program, "-S").stdout.splitlines()
                assert [rule for rule in rules if rule.endswith("-j LOGGUARDD")] == [
                    "-A INPUT -j LOGGUARDD",
                    "-A FORWARD -j LOGGUARDD",
                ]


def test_a_hundred_thousand_bans(world: World, record_property: Callable[[str, object], None]) -> None:
    # Plain rules are for a few hundred bans; more must only work.
    number = 20_000 if world.kind == "iptables" else 100_000
    at = now()
    bans = [
        Ban(IPv4Network((0x64000000 + 5 * n, 32)), 22 * (n % 2), "auth", 0, at + 3600 * SECOND, "")
        for n in range(number)
    ]
    timings = {}

    @contextlib.contextmanager
    def timed(what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        timings[what] = round(time.perf_counter() - started, 3)

    with timed("all"):
        world.sync(*bans)
    with timed("one more"):
        world.apply(ban(BAD))
    with timed("extend it"):
        world.apply(ban(BAD, 0, 900))
    with timed("again"):
        world.sync(*bans, ban(BAD, 0, 900))
    print(world.kind, timings)
    record_property("seconds", timings)
    # While the kernel resizes its hash, a listing is incomplete.
    wait_until(lambda: len(world.left()) == number + 1, what="a complete listing")
    assert world.connect(GOOD, wait=5)
    assert not world.connect(BAD)
    assert timings["all"] < 30
    assert timings["again"] < 30
    assert max(timings["one more"], timings["extend it"]) < 3
