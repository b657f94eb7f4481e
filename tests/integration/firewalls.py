"""A network in namespaces for tests of the firewall's backends, and what the kernel holds.

A host with the backend under test stands between peers (203.0.113.0/24, 2001:db8:1::/64, 10.0.0.0/8) and a machine
behind it (198.51.100.2), to which it forwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import selectors
import socket
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from logguardd.firewall.commands import Executor
from logguardd.firewall.ipset import Ipset
from logguardd.firewall.iptables import Iptables
from logguardd.firewall.nftables import Nftables
from logguardd.records import SECOND, Ban
from tests.servers.inside import inside
from tests.servers.netns import Netns
from tests.servers.process import need, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from logguardd.firewall.commands import Command

HOST4, HOST6, BEHIND = "203.0.113.1", "2001:db8:1::1", "198.51.100.2"
BAD, GOOD = "203.0.113.5", "203.0.113.6"
BAD6, GOOD6 = "2001:db8:1::5", "2001:db8:1::6"
NEAR, FAR = "10.1.2.3", "10.2.0.1"
SUBNET6, OTHER6 = "2001:db8:7:1::9", "2001:db8:7:2::9"
PEERS = (BAD, GOOD, BAD6, GOOD6, NEAR, FAR, SUBNET6, OTHER6)
BACKENDS = {"nftables": Nftables, "ipset": Ipset, "iptables": Iptables}
DIALECT = {"nftables": "nftables", "ipset": "iptables", "iptables": "iptables-plain"}


def now() -> int:
    return time.time_ns() // 1000


def ban(network: str, port: int = 0, seconds: float | None = 300) -> Ban:
    until = None if seconds is None else now() + int(seconds * SECOND)
    return Ban(ip_network(network), port, "auth", 0, until, "")


class Recorder(Executor):
    """Runs commands and remembers those that change something."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    async def run(self, command: Command) -> None:
        self.commands.append(command)
        await super().run(command)


class Network:
    """The namespaces, with services on the host (ports 22 and 80) and behind it (22)."""

    def __init__(self) -> None:
        self.host, self.peers, self.behind = Netns(), Netns(), Netns()
        self.host.connect(
            self.peers, [f"{HOST4}/24", f"{HOST6}/64"], [f"{BAD}/24", f"{GOOD}/24", f"{BAD6}/64", f"{GOOD6}/64"]
        )
        self.host.connect(self.behind, ["198.51.100.1/24"], [f"{BEHIND}/24"])
        for address in (NEAR, FAR):
            self.peers.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        for address in (SUBNET6, OTHER6):
            self.peers.run("ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad")
        self.host.run("ip", "route", "add", "10.0.0.0/8", "via", BAD)
        self.host.run("ip", "-6", "route", "add", "2001:db8:7::/48", "via", BAD6)
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.peers.run("ip", "route", "add", "198.51.100.0/24", "via", HOST4)
        self.behind.run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.1")
        with inside(self.host):
            self.services = [
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (22, 80)
            ]
        with inside(self.behind):
            self.services.append(socket.create_server((BEHIND, 22)))

    def clean(self) -> None:
        """Remove every rule and set of the host's, and connections that nobody accepted."""
        for service in self.services:
            service.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    service.accept()[0].close()
        self.host.run("nft", "flush", "ruleset")
        self.host.run("ipset", "destroy")

    def close(self) -> None:
        for service in self.services:
            service.close()
        for space in (self.host, self.peers, self.behind):
            space.delete()


class World:
    """One backend on the network's host."""

    def __init__(self, kind: str, network: Network) -> None:
        self.kind = kind
        self.host, self.peers, self.services = network.host, network.peers, network.services
        self.recorder = Recorder()
        self.backend = BACKENDS[kind](self.recorder)
        self.open: list[socket.socket] = []
        # A new link drops packets until the neighbours know one another.
        wait_until(lambda: self.passing() == set(PEERS) and self.connect(GOOD, target=BEHIND), what="the network")

    def close(self) -> None:
        for one in self.open:
            one.close()

    def accept(self, peer: socket.socket) -> socket.socket:
        """Return the host's end of a peer's connection to port 22."""
        self.services[0].settimeout(5)
        while True:
            server, (address, port, *_) = self.services[0].accept()
            if (address.removeprefix("::ffff:"), port) == peer.getsockname()[:2]:
                self.open.append(server)
                return server
            server.close()

    def do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run backend calls on the host."""

        async def main() -> Any:
            return await work()

        with inside(self.host):
            return asyncio.run(main())

    def sync(self, *bans: Ban) -> None:
        self.do(lambda: self.backend.sync(bans, now()))

    def apply(self, *add: Ban, remove: tuple[Ban, ...] = ()) -> None:
        self.do(lambda: self.backend.apply(add, remove, now()))

    def intact(self, *, later: int = 0) -> bool:
        return bool(self.do(lambda: self.backend.intact(now() + later)))

    def connect(
        self, source: str, port: int = 22, target: str | None = None, wait: float = 0.4
    ) -> socket.socket | None:
        """Return a connection from a peer's address, None if its packets are dropped."""
        target = target or (HOST6 if ":" in source else HOST4)
        with inside(self.peers):
            peer = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
        peer.settimeout(wait)
        peer.bind((source, 0))
        try:
            peer.connect((target, port))
        except TimeoutError:
            peer.close()
            return None
        self.open.append(peer)
        return peer

    def passing(self, port: int = 22) -> set[str]:
        """Return the peers that can connect to a port of the host."""
        waiting: dict[socket.socket, str] = {}
        with contextlib.ExitStack() as peers, selectors.DefaultSelector() as selector:
            for source in PEERS:
                six = ":" in source
                with inside(self.peers):
                    peer = peers.enter_context(socket.socket(socket.AF_INET6 if six else socket.AF_INET))
                peer.setblocking(False)
                peer.bind((source, 0))
                peer.connect_ex((HOST6 if six else HOST4, port))
                selector.register(peer, selectors.EVENT_WRITE)
                waiting[peer] = source
            connected: set[str] = set()
            until = time.monotonic() + 0.4
            while len(connected) < len(PEERS) and (rest := until - time.monotonic()) > 0:
                for key, _ in selector.select(rest):
                    assert isinstance(key.fileobj, socket.socket)
                    assert key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                    selector.unregister(key.fileobj)
                    connected.add(waiting[key.fileobj])
            return connected

    def left(self) -> dict[str, int | None]:
        """Return what the kernel holds: "network" or "network port" to seconds left, None for ever."""
        if self.kind == "nftables":
            return _nft_left(self.host.run("nft", "-j", "list", "table", "inet", "logguardd").stdout)
        if self.kind == "ipset":
            return _ipset_left(self.host.run("ipset", "save").stdout)
        rules = (
            self.host.run("iptables", "-S", "LOGGUARDD").stdout + self.host.run("ip6tables", "-S", "LOGGUARDD").stdout
        )
        found = re.findall(r"-s (\S+?)(?:/32|/128)?(?: -p tcp -m tcp --dport (\d+))? -j DROP", rules)
        return {f"{network} {port}".strip(): None for network, port in found}


def _nft_left(text: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for item in (entry["set"] for entry in json.loads(text)["nftables"] if "set" in entry):
        length = re.search(r"_(\d+)", item["name"])
        for element in item.get("elem", ()):
            value, seconds = (
                (element["elem"]["val"], element["elem"]["expires"]) if "elem" in element else (element, None)
            )
            address, port = value["concat"] if isinstance(value, dict) else (value, "")
            found[f"{address}{f'/{length[1]}' if length else ''} {port}".strip()] = seconds
    return found


def _ipset_left(text: str) -> dict[str, int | None]:
    found = {}
    for network, port, seconds in re.findall(
        r"^add \S+ ([^,\s]+)(?:,(?:tcp|udp):(\d+))? timeout (\d+)$", text, re.MULTILINE
    ):
        found[f"{network} {port}".strip()] = int(seconds) or None
    return found


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    need("ip", "nft", "iptables", "ip6tables", "ipset")
    made = Network()
    yield made
    made.close()


@pytest.fixture(params=list(BACKENDS))
def world(request: pytest.FixtureRequest, network: Network) -> Iterator[World]:
    made = World(request.param, network)
    yield made
    made.close()
    network.clean()
