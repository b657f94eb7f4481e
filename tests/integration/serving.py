"""A Web under test: its control object, and clients for both of its listeners."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from ipaddress import ip_network

from logguardd.errors import ConfigError, UnavailableError
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Ban
from logguardd.web import Web
from logguardd.web.control import Component, Health, ProtectedError
from logguardd.web.followers import Followers

NOW = 1_790_000_000 * SECOND


def make_ban(network, port=0, until=NOW + 300 * SECOND, **more):
    return Ban(ip_network(network), port, more.pop("jail", "auth"), NOW, until, more.pop("reason", "6 hits"), **more)


class Bans:
    """A Control that keeps its bans in a list."""

    def __init__(self, *bans):
        self.all = list(bans)
        self.followers = None
        self.ready = True

    def status(self):
        return {"version": "1", "uptime_seconds": 5, "components": {"journal": {"state": "up", "detail": ""}}}

    def health(self):
        state = "up" if self.ready else "down"
        return Health(self.ready, {"journal": Component(state, "disk"), "archive": Component("degraded", "PostgreSQL")})

    def bans(self, *, past=False):
        return [ban for ban in self.all if past or ban.active(NOW)]

    async def why(self, address, port):
        return {"address": address, "banned": False, "protected": None, "bans": [], "counting": [], "messages": [],
                "archive": None if port is None else f"asked for port {port}"}  # fmt: skip

    async def ban(self, request):
        if request.network.overlaps(ip_network("127.0.0.0/8")):
            raise ProtectedError(f"{request.network} is protected: allowlist")
        if request.reason == "down":
            raise UnavailableError("no journal")
        if request.reason == "bug":
            raise ZeroDivisionError
        until = None if request.duration is None else NOW + request.duration
        made = Ban(request.network, request.port, "operator", NOW, until, request.reason)
        self.all.append(made)
        if self.followers is not None:
            self.followers.publish([made])
        return made

    async def unban(self, bans):
        self.all = [ban for ban in self.all if ban not in bans]
        if self.followers is not None:
            self.followers.publish([], [ban.key for ban in bans])

    async def reload(self):
        if not self.ready:
            raise ConfigError("f.toml:1: wrong\nf.toml:2: wrong too")
        return "12 rules"


class Served:
    """What a test talks to."""

    def __init__(self, web, control, followers, metrics, path):
        self.web, self.control, self.followers, self.metrics, self.path = web, control, followers, metrics, path

    async def ask(self, method, target, body=None, *, raw=None, tcp=False):
        """Return (status, headers, content), the content decoded if it is JSON."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        if tcp:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.web.ports[0])
        else:
            reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
        )
        writer.write(data)
        head, _, content = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
        writer.close()
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if "json" in headers.get("content-type", ""):
            return int(first.split()[1]), headers, json.loads(content)
        return int(first.split()[1]), headers, content.decode()

    @asynccontextmanager
    async def follow(self):
        """Give a reader of the feed's lines (HTTP/1.0: no chunks)."""
        reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 21)
        writer.write(b"GET /follow HTTP/1.0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.0 200")
        while await reader.readline() != b"\r\n":
            pass
        try:
            yield reader
        finally:
            writer.close()


@asynccontextmanager
async def serving(folder, *bans, listen="127.0.0.1:0", **options):
    control, metrics = Bans(*bans), Metrics()
    followers = Followers(control.bans, metrics, clock=lambda: NOW, software="logguardd 1", **options)
    control.followers = followers
    path = str(folder / "control.sock")
    web = Web(control, followers, metrics, listen=listen, socket_path=path, clock=lambda: NOW)
    await web.start()
    try:
        yield Served(web, control, followers, metrics, path)
    finally:
        await web.stop()


async def eventually(condition):
    """Poll until the condition is true."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)
