"""The ban feed over HTTPS: the same as by the control socket, while certificates change."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from logguardd import feed
from logguardd.errors import ConfigError
from logguardd.listeners.tls_context import TlsSettings
from tests.integration.following import events, files, lines, serving, why_not
from tests.integration.serving import NOW, eventually, make_ban
from tests.listening import both_loops, run_on


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
