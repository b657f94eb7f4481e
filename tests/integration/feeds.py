"""A ban feed's server that says exactly what a test wants, and followers of it."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from logguardd import feed
from logguardd.firewall.follower import Follower
from logguardd.firewall.guard import Guard
from logguardd.firewall.sources import UnixSource
from logguardd.records import SECOND, Ban
from tests.servers.daemon import CHECKOUT
from tests.servers.inside import inside
from tests.servers.process import Child

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.servers.netns import Netns


def now() -> int:
    return time.time_ns() // 1000


def ban(network: str, port: int = 0, seconds: float | None = 300) -> Ban:
    until = None if seconds is None else now() + int(seconds * SECOND)
    return Ban(ip_network(network), port, "auth", 0, until, "6 hits")


class Connection:
    """One follower's connection."""

    def __init__(self, stream: socket.socket, request: str) -> None:
        self.stream = stream
        self.request = request

    def send(self, *lines: Iterable[bytes]) -> None:
        """Send what feed's encoders give, as one HTTP chunk."""
        data = b"".join(line for some in lines for line in some)
        self.stream.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def greet(self, *bans: Ban) -> Connection:
        """Send hello and a snapshot."""
        self.send(feed.hello(now(), "test 1"), feed.snapshot(bans))
        return self

    def closed(self) -> bool:
        """Wait until the follower has gone."""
        return self.stream.recv(1) == b""

    def end(self) -> None:
        self.stream.close()


class FeedServer:
    """Listens at a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.listen()

    def listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.listener.settimeout(20)

    def accept(self, status: str = "200 OK") -> Connection:
        """Wait for a follower and answer its request."""
        stream, _ = self.listener.accept()
        stream.settimeout(20)
        request = b""
        while b"\r\n\r\n" not in request:
            request += stream.recv(4096)
        stream.sendall(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection = Connection(stream, request.decode())
        self.connections.append(connection)
        return connection

    def close(self) -> None:
        self.listener.close()
        for connection in self.connections:
            connection.end()


def service(space: Netns, folder: Path, *options: str, env: dict[str, str] | None = None) -> Child:
    """Start logguardd-firewall in a namespace, with the default configuration."""
    config = folder / "logguardd.toml"
    config.touch()
    argv = [sys.executable, "-m", "logguardd.firewall.service", "--config", str(config), *options]
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"} | (env or {})
    return Child(space.argv(*argv), folder / "firewall.log", env=environment, cwd=folder)


@contextmanager
def following(space: Netns, server: FeedServer, backend: Any, guard: Guard | None = None) -> Iterator[Follower]:
    """Run a follower in a thread that is inside the namespace."""
    started = threading.Event()
    made: list[tuple[asyncio.AbstractEventLoop, Follower]] = []

    async def main() -> None:
        follower = Follower(UnixSource(str(server.path)), backend, guard or Guard(), now)
        made.append((asyncio.get_running_loop(), follower))
        started.set()
        await follower.run()

    def body() -> None:
        with inside(space):
            asyncio.run(main())

    thread = threading.Thread(target=body)
    thread.start()
    assert started.wait(10)
    try:
        yield made[0][1]
    finally:
        made[0][0].call_soon_threadsafe(made[0][1].stop)
        thread.join(20)
        assert not thread.is_alive()


def elements(space: Netns) -> dict[str, int | None] | None:
    """Return what the nftables table holds, "address" or "address port" to seconds left; None where there is no table."""
    listed = space.run("nft", "-j", "list", "table", "inet", "logguardd", check=False)
    if listed.returncode:
        return None
    found: dict[str, int | None] = {}
    for item in (entry["set"] for entry in json.loads(listed.stdout)["nftables"] if "set" in entry):
        for element in item.get("elem", ()):
            value, left = (element["elem"]["val"], element["elem"]["expires"]) if "elem" in element else (element, None)
            found[" ".join(map(str, value["concat"])) if isinstance(value, dict) else value] = left
    return found
