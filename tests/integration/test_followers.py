"""The ban feed over the control socket."""

import asyncio

from logguardd import feed
from tests.integration.serving import NOW, eventually, make_ban, serving


async def events(reader, number):
    """Read that many events."""
    decoder = feed.Decoder()
    found = []
    while len(found) < number:
        line = await asyncio.wait_for(reader.readline(), 10)
        assert line, f"the feed ended after {found}"
        found += decoder.feed(line)
    return found


def test_a_snapshot_then_changes(tmp_path):
    async def body():
        first = make_ban("192.0.2.1", 22)
        async with serving(tmp_path, first, make_ban("192.0.2.9", until=NOW - 1)) as served, served.follow() as reader:
            hello, snapshot = await asyncio.wait_for(events(reader, 2), 10)
            assert (hello.software, hello.now) == ("logguardd 1", NOW)
            assert [ban.key for ban in snapshot.bans] == [first.key]
            assert served.metrics.followers._value.get() == 1
            assert (await served.ask("POST", "/bans", {"network": "192.0.2.2", "duration": None}))[0] == 201
            assert (await served.ask("DELETE", "/bans/192.0.2.1"))[0] == 200
            added = feed.decode(await reader.readline())
            assert [(str(ban.network), ban.until) for ban in added.add] == [("192.0.2.2/32", None)]
            assert feed.decode(await reader.readline()).remove == (first.key,)

    asyncio.run(body())


def test_every_follower_gets_every_change_once(tmp_path):
    async def body():
        async with serving(tmp_path) as served, served.follow() as one, served.follow() as other:
            await events(one, 2)
            await events(other, 2)
            for number in range(200):
                served.followers.publish([make_ban(f"192.0.2.{number}")])
            for reader in (one, other):
                found = [feed.decode(await reader.readline()) for _ in range(200)]
                assert [str(event.add[0].network) for event in found] == [f"192.0.2.{n}/32" for n in range(200)]

    asyncio.run(body())


def test_large_snapshots_and_changes_during_them(tmp_path):
    async def body():
        bans = [make_ban(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", jail="x" * 60) for n in range(50_000)]
        async with serving(tmp_path, *bans) as served, served.follow() as reader:
            await eventually(lambda: len(served.followers))
            served.followers.publish([make_ban("203.0.113.1")])
            decoder, held = feed.Decoder(), set()
            while True:
                for event in decoder.feed(await asyncio.wait_for(reader.readline(), 20)):
                    held |= {ban.key for ban in getattr(event, "bans", ())}
                if isinstance(event, feed.Change):
                    break
            assert held == {ban.key for ban in bans}
            assert str(event.add[0].network) == "203.0.113.1/32"

    asyncio.run(body())


def test_heartbeats(tmp_path):
    async def body():
        async with serving(tmp_path, heartbeat=0.05) as served, served.follow() as reader:
            found = await events(reader, 5)
            assert [type(event) for event in found[2:]] == [feed.Heartbeat] * 3

    asyncio.run(body())


def slow(served):
    return served.metrics.connections_refused.labels("follow", "slow")._value.get()


def test_a_follower_with_too_much_waiting_is_disconnected_and_counted(tmp_path):
    async def body():
        async with serving(tmp_path, max_waiting=10_000) as served, served.follow() as reader:
            await events(reader, 2)
            served.followers.publish([make_ban(f"192.0.2.{n}") for n in range(250)])
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await eventually(lambda: slow(served) == 1)
            assert len(served.followers) == 0
            assert (await served.ask("GET", "/status"))[0] == 200

    asyncio.run(body())


def test_a_follower_that_does_not_read_is_disconnected_and_counted(tmp_path):
    async def body():
        bans = [make_ban(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(50_000)]
        async with serving(tmp_path, *bans, write_timeout=0.2) as served:
            _, writer = await asyncio.open_unix_connection(served.path, limit=1024)
            writer.write(b"GET /follow HTTP/1.0\r\n\r\n")
            await eventually(lambda: slow(served) == 1)
            assert len(served.followers) == 0
            writer.close()

    asyncio.run(body())


def test_a_follower_that_goes_is_noticed(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            async with served.follow() as reader:
                await events(reader, 2)
                assert len(served.followers) == 1
            await eventually(lambda: len(served.followers) == 0)
            assert slow(served) == 0

    asyncio.run(body())


def test_the_number_of_followers_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("logguardd.web.followers.MAX_FOLLOWERS", 1)

    async def body():
        async with serving(tmp_path) as served, served.follow() as reader, served.follow() as other:
            await events(reader, 2)
            assert await asyncio.wait_for(other.read(), 5) == b""
            assert served.metrics.connections_refused.labels("follow", "too-many")._value.get() == 1

    asyncio.run(body())


def test_chunked_for_http_1_1(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            reader, writer = await asyncio.open_unix_connection(served.path)
            writer.write(b"GET /follow HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"chunked" in head.lower()
            assert b"application/x-ndjson" in head
            writer.close()

    asyncio.run(body())
