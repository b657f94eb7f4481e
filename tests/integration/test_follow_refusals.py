"""Who may not follow over HTTPS, what is not served, and what both sides are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import replace

import pytest

from logguardd.web import follow_server
from tests.integration.following import REQUEST, ask, connected, events, files, serving, why_not
from tests.integration.serving import eventually, make_ban
from tests.listening import both_loops, run_on


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
