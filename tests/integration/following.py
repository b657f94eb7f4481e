"""A FollowServer under test, and clients that follow it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from contextlib import asynccontextmanager

from logguardd import feed
from logguardd.errors import UnavailableError
from logguardd.firewall.sources import Certificates, HttpsSource
from logguardd.metrics import Metrics
from logguardd.web.follow_server import FollowServer
from logguardd.web.followers import Followers
from tests.integration.serving import NOW

REQUEST = b"GET /follow HTTP/1.1\r\nHost: x\r\n\r\n"


def files(authority, name="web1", *, signer=None) -> Certificates:
    certificate, key = (signer or authority).issue(name)
    return Certificates(str(authority.certificate), str(certificate), str(key))


class Served:
    def __init__(self, server, followers, bans, metrics):
        self.server, self.followers, self.bans, self.metrics = server, followers, bans, metrics

    @property
    def port(self):
        return self.server.addresses[0][1]

    def source(self, certificates, host="127.0.0.1"):
        return HttpsSource(host, self.port, certificates)

    def refused(self, reason):
        return self.metrics.connections_refused.labels("follow", reason)._value.get()


@asynccontextmanager
async def serving(settings, *bans, heartbeat=10.0):
    held, metrics = list(bans), Metrics()
    followers = Followers(lambda: held, metrics, clock=lambda: NOW, software="logguardd 1", heartbeat=heartbeat)
    server = FollowServer("127.0.0.1:0", settings, followers, metrics)
    await server.start()
    try:
        yield Served(server, followers, held, metrics)
    finally:
        followers.close()
        await server.stop()


async def events(chunks, number):
    decoder, found = feed.Decoder(), []
    async for chunk in chunks:
        found += decoder.feed(chunk)
        if len(found) >= number:
            return found
    raise AssertionError(f"the feed ended after {found}")


async def why_not(source) -> str:
    """Return why a feed cannot be followed."""
    try:
        async with source.open() as chunks:
            return f"nothing: it may be followed, {[chunk async for chunk in chunks]}"
    except UnavailableError as error:
        return str(error)


@asynccontextmanager
async def connected(served, certificates):
    """Give a raw TLS connection."""
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.certificate, certificates.private_key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", served.port, ssl=context, server_hostname="logs.example.com"
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(served, certificates, request) -> bytes:
    async with connected(served, certificates) as (reader, writer):
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)


async def lines(chunks, number):
    data = b""
    async for chunk in chunks:
        data += chunk
        if data.count(b"\n") >= number:
            return data.splitlines()
    raise AssertionError(data)
