"""The ban feed over HTTPS: who may follow, what is served, and what a follower is told when it may not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from logguardd import feed
from logguardd.errors import ConfigError, UnavailableError
from logguardd.firewall.sources import Certificates, HttpsSource, parse_source
from logguardd.listeners.tls_context import TlsSettings
from logguardd.metrics import Metrics
from logguardd.web import follow_server
from logguardd.web.follow_server import FollowServer
from logguardd.web.followers import Followers
from tests.integration.serving import NOW, eventually, make_ban
from tests.listening import both_loops, run_on
from tests.servers.certificates import Authority

REQUEST = b"GET /follow HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def settings(authority) -> TlsSettings:
    certificate, key = authority.issue("logs.example.com")
    return TlsSettings(str(certificate), str(key), str(authority.certificate))


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


@both_loops
def test_the_feed_is_the_same(run, authority, settings, caplog):
    caplog.set_level(logging.INFO)

    async def body():
        first = make_ban("192.0.2.1", 22)
        async with serving(settings, first) as served:
            async with served.source(files(authority)).open() as chunks:
                hello, snapshot = await events(chunks, 2)
                assert (hello.software, hello.now) == ("logguardd 1", NOW)
                assert [ban.key for ban in snapshot.bans] == [first.key]
                served.followers.publish([make_ban("2001:db8::/64")], [first.key])
                removed, added = [feed.decode(line) for line in await lines(chunks, 2)]
                assert removed.remove == (first.key,)
                assert str(added.add[0].network) == "2001:db8::/64"
                assert (len(served.followers), served.followers.local) == (1, 0)
            await eventually(lambda: len(served.followers) == 0)
        assert "web1 (127.0.0.1) follows" in caplog.messages
        assert "web1 (127.0.0.1) follows no more" in caplog.messages

    run_on(run, body())


async def lines(chunks, number):
    data = b""
    async for chunk in chunks:
        data += chunk
        if data.count(b"\n") >= number:
            return data.splitlines()
    raise AssertionError(data)


@both_loops
def test_large_snapshots_and_heartbeats(run, authority, settings):
    async def body():
        bans = [make_ban(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", jail="x" * 60) for n in range(20_000)]
        async with serving(settings, *bans, heartbeat=0.1) as served, served.source(files(authority)).open() as chunks:
            decoder, held, beats = feed.Decoder(), 0, 0
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    held += len(getattr(event, "bans", ()))
                    beats += isinstance(event, feed.Heartbeat)
                if beats >= 3:
                    break
            assert held == 20_000

    run_on(run, body())


@both_loops
def test_stopping_ends_the_feed_and_remembers_the_server(run, authority, settings):
    async def body():
        async with serving(settings, make_ban("192.0.2.1")) as served:
            source = served.source(files(authority))
            assert list(source.peers) == []
            async with source.open() as chunks:
                await events(chunks, 2)
                assert list(map(str, source.peers)) == ["127.0.0.1"]
                served.followers.close()
                await asyncio.wait_for(served.server.stop(), 5)
                assert [chunk async for chunk in chunks] == []
            assert "Connect" in await why_not(source)

    run_on(run, body())


@both_loops
def test_who_may_not_follow_is_told_why(run, authority, stranger, settings, caplog):
    async def body():
        async with serving(settings, make_ban("192.0.2.1")) as served:
            wrong = files(authority, signer=stranger)
            assert "the server refuses our certificate: tlsv1 alert unknown ca" in await why_not(served.source(wrong))
            # aiohttp may try a second time by itself.
            assert served.refused("tls-handshake") >= 1
            late = authority.issue("late", days=-1)
            expired = replace(wrong, certificate=str(late[0]), private_key=str(late[1]))
            assert "certificate expired" in await why_not(served.source(expired))
            # Another authority: it is the follower that refuses the server.
            other = files(stranger)
            assert "the server's certificate: " in await why_not(served.source(other))
            # A certificate, but for another name.
            assert "not valid for 'localhost'" in await why_not(served.source(files(authority), "localhost"))
            assert len(served.followers) == 0
        assert "follow: tls-handshake from 127.0.0.1: client certificate: " in caplog.text

    run_on(run, body())


@both_loops
def test_without_a_certificate(run, authority, settings, caplog):
    async def body():
        async with serving(settings, make_ban("192.0.2.1")) as served:
            context = ssl.create_default_context(cafile=authority.certificate)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=context, server_hostname="logs.example.com"
            )
            writer.write(REQUEST)
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            assert served.refused("tls-handshake") == 1
            # And without TLS.
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(REQUEST)
            assert b"192.0.2.1" not in await asyncio.wait_for(reader.read(), 10)
            writer.close()
            assert served.refused("tls-handshake") == 2

    run_on(run, body())


@both_loops
def test_permitted_peers(run, authority, settings, caplog):
    async def body():
        async with serving(replace(settings, permitted_peers=("*.example.net",))) as served:
            async with served.source(files(authority, "web1.example.net")).open() as chunks:
                await events(chunks, 2)
            refused = served.source(files(authority, "web1.example.org"))
            assert "the daemon answered 403 Forbidden" in await why_not(refused)
            assert served.refused("peer-not-permitted") == 1
        assert "not in tls.permitted_peers: web1.example.org, SHA256:" in caplog.text

    run_on(run, body())


@both_loops
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /bans HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /follow?x HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /follow HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /follow HTTP/1.1\r\nX: " + b"x" * 9000, b"431 Request Header Fields Too Large"),
    ],
)
def test_nothing_else_is_served(run, authority, settings, request_, status):
    async def body():
        async with serving(settings, make_ban("192.0.2.1")) as served:
            head, _, content = (await ask(served, files(authority), request_)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert json.loads(content) == {"error": status.partition(b" ")[2].decode()}

    run_on(run, body())


@both_loops
def test_a_request_in_pieces(run, authority, settings):
    async def body():
        async with serving(settings, make_ban("192.0.2.1")) as served, connected(served, files(authority)) as peer:
            for number in range(len(REQUEST)):
                peer[1].write(REQUEST[number : number + 1])
                await peer[1].drain()
                await asyncio.sleep(0)
            assert b"192.0.2.1" in await asyncio.wait_for(peer[0].readuntil(b'"more":false}\n'), 10)

    run_on(run, body())


@both_loops
def test_who_says_nothing_is_closed(run, authority, settings, monkeypatch):
    monkeypatch.setattr(follow_server, "PATIENCE", 0.3)

    async def body():
        async with serving(settings) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            async with connected(served, files(authority)) as (reader, writer):
                writer.write(b"GET /follow")
                assert await asyncio.wait_for(reader.read(), 10) == b""
            await eventually(lambda: served.refused("tls-handshake") == 2)

    run_on(run, body())


@both_loops
def test_connections_are_bounded(run, authority, settings, monkeypatch):
    monkeypatch.setattr(follow_server, "MAX_WAITING", 2)

    async def body():
        async with serving(settings) as served:
            held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
            await eventually(lambda: served.server._waiting == 2)
            reader, refused = await asyncio.open_connection("127.0.0.1", served.port)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            assert served.refused("max-connections") == 1
            for _, writer in (*held, (reader, refused)):
                writer.close()
            await eventually(lambda: served.server._waiting == 0)
            async with served.source(files(authority)).open() as chunks:
                await events(chunks, 2)

    run_on(run, body())


@both_loops
def test_followers_are_bounded(run, authority, settings, monkeypatch):
    monkeypatch.setattr("logguardd.web.followers.MAX_FOLLOWERS", 1)

    async def body():
        async with serving(settings) as served:
            source = served.source(files(authority))
            async with source.open() as chunks:
                await events(chunks, 2)
                assert "the daemon answered 503 Service Unavailable" in await why_not(source)

    run_on(run, body())


@both_loops
def test_certificates_are_changed_under_way(run, authority, stranger, settings):
    async def body():
        async with serving(settings) as served:
            async with served.source(files(authority)).open() as chunks:
                await events(chunks, 2)
                certificate, key = stranger.issue("logs.example.com")
                served.server.reload(TlsSettings(str(certificate), str(key), str(stranger.certificate)))
                async with served.source(files(stranger)).open() as more:
                    await events(more, 2)
                assert "the server's certificate: " in await why_not(served.source(files(authority)))
                served.followers.publish([make_ban("192.0.2.9")])
                assert b"192.0.2.9" in (await lines(chunks, 1))[0]
            for bad, what in (
                (replace(settings, client_ca=""), "tls.client_ca: not set; http.follow needs it"),
                (replace(settings, certificate="/nowhere"), "tls.certificate: /nowhere: No such file"),
            ):
                with pytest.raises(ConfigError, match=what):
                    served.server.reload(bad)
            async with served.source(files(stranger)).open() as more:
                await events(more, 2)

    run_on(run, body())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://logs.example.com", "https://logs.example.com:9515"),
        ("https://logs.example.com:9999/", "https://logs.example.com:9999"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:9515"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_sources(authority, text, shown):
    assert str(parse_source(text, files(authority))) == shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "unix:x", "http://logs", "https://", "https://logs:x", "https://logs:99999", "https://u:p@logs",
     "https://logs/follow", "https://logs?x", "https://[::1", "ftp://logs"],
)  # fmt: skip
def test_what_is_no_source(authority, text):
    with pytest.raises(ConfigError, match=r"not a source; allowed: unix:PATH, .* or https://HOST"):
        parse_source(text, files(authority))


def test_files_that_are_no_good(authority, stranger, tmp_path):
    good = files(authority)
    other = files(stranger)
    (tmp_path / "x").write_text("x")
    for bad, what in (
        (replace(good, ca="/nowhere"), "--ca: /nowhere: No such file"),
        (replace(good, ca=str(tmp_path / "x")), "--ca: .*: no certificate or crl found"),
        (replace(good, certificate="/nowhere"), "--cert: /nowhere: No such file"),
        (replace(good, private_key="/nowhere"), "--key: /nowhere: No such file"),
        (replace(good, private_key=other.private_key), "--cert, --key: .*: key values mismatch"),
    ):
        with pytest.raises(ConfigError, match=what):
            parse_source("https://logs", bad)
