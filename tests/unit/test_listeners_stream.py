from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct

import pytest

from logguardd.errors import ConfigError
from logguardd.listeners.limits import Limits
from logguardd.listeners.stream import StreamListener
from logguardd.records import SECOND, Origin
from tests.listening import Receiving, both_loops, needs_ipv6, run_on, until


def receiving(*specs: str, **more) -> Receiving:
    return Receiving(StreamListener, *specs, **more)


def connect(r: Receiving, source: str = "127.0.0.1") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", r.port), source_address=(source, 0))
    client.setblocking(False)
    return client


def fill(client: socket.socket) -> int:
    """Send until the kernel takes no more, so that the sender is held back; return the number of bytes."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.send(b"<13>x\n" * 10_000)
    return sent


async def closed_by_peer(client: socket.socket) -> bytes:
    """Read until the other side has closed; return what it sent."""
    received = b""
    try:
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 5):
            received += data
    except ConnectionResetError:
        pass
    client.close()
    return received


@both_loops
def test_both_framings_mixed_on_one_connection(run):
    async def main():
        async with receiving() as r:
            with connect(r) as client:
                await until(lambda: r.count("connections") == 1)
                client.send(b"<13>lf\n12 <13>counted.<13>crlf\r\n<13>nul\0008 <13>a\nb\n\n<13>half")
                await until(lambda: r.sink.number == 5)
                client.send(b" and half\n<13>last without end")
                await until(lambda: r.sink.number == 6)
            await until(lambda: r.count("connections") == 0)
            assert r.sink.frames == [
                b"<13>lf",
                b"<13>counted.",
                b"<13>crlf",
                b"<13>nul",
                b"<13>a#012b",
                b"<13>half and half",
                b"<13>last without end",
            ]
            assert r.sink.origins == {Origin("127.0.0.1", "tcp")}
            assert r.count("messages_total") == 7
            assert r.count("connections_opened_total") == 1
            assert r.dropped("empty") == 1

    run_on(run, main())


@both_loops
def test_a_partial_octet_counted_frame_is_counted_at_the_end(run):
    async def main():
        async with receiving() as r:
            with connect(r) as client:
                client.send(b"<13>whole\n100 <13>cut")
            await until(lambda: r.dropped("partial") == 1)
            assert r.sink.frames == [b"<13>whole"]

    run_on(run, main())


@both_loops
def test_a_reset_connection_keeps_what_was_framed(run):
    async def main():
        async with receiving() as r:
            client = connect(r)
            client.send(b"<13>one\n<13>two")
            await until(lambda: r.sink.number == 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await until(lambda: r.count("connections") == 0)
            assert r.sink.frames == [b"<13>one", b"<13>two"]

    run_on(run, main())


@both_loops
def test_a_half_closed_connection_is_ended(run):
    async def main():
        async with receiving() as r:
            client = connect(r)
            client.send(b"<13>one")
            client.shutdown(socket.SHUT_WR)
            await closed_by_peer(client)
            await until(lambda: r.count("connections") == 0)
            assert r.sink.frames == [b"<13>one"]

    run_on(run, main())


@both_loops
def test_a_full_sink_stops_reading_and_room_starts_it_again(run):
    async def main():
        async with receiving() as r:
            first, second = connect(r), connect(r)
            first.send(b"<13>0\n")
            await until(lambda: r.sink.number == 1)
            r.sink.full = True
            # The bound is soft by one read for each connection; after that nothing is taken.
            first.send(b"<13>1\n")
            second.send(b"<13>2\n")
            await until(lambda: r.sink.number == 3)
            sent = fill(first)
            second.send(b"<13>3\n")
            third = connect(r)  # connects while the sink is full
            third.send(b"<13>4\n")
            await until(lambda: r.count("connections") == 3)
            await asyncio.sleep(0.05)
            third.send(b"<13>5\n")
            await asyncio.sleep(0.05)
            assert r.sink.number <= 4
            r.sink.make_room()
            await until(lambda: r.sink.number >= 3 + 3 + sent // 6)
            for client in (first, second, third):
                client.close()

    run_on(run, main())


@both_loops
def test_room_for_one_read_lets_one_connection_go_on(run):
    async def main():
        async with receiving() as r:
            clients = [connect(r) for _ in range(5)]
            await until(lambda: r.count("connections") == 5)
            r.sink.full = True
            for client in clients:
                client.send(b"<13>the bound is soft by one read\n")
            await until(lambda: r.sink.number == 5)
            for client in clients:
                client.send(b"<13>waits\n")
            clients[0].close()  # reads nothing more of it before its turn
            for number in range(6, 11):
                r.sink.make_room(1)
                r.sink.full = True
                await until(lambda number=number: r.sink.number == number)
                await asyncio.sleep(0.01)
                assert r.sink.number == number
            assert r.sink.frames[5:] == [b"<13>waits"] * 5
            for client in clients:
                client.close()

    run_on(run, main())


@both_loops
def test_more_connections_than_allowed_are_closed_at_once(run, caplog):
    async def main():
        async with receiving(limits=Limits(max_connections=2)) as r:
            kept = [connect(r), connect(r)]
            await until(lambda: r.count("connections") == 2)
            for _ in range(3):
                await closed_by_peer(connect(r))
            assert r.refused("max-connections") == 3
            assert r.count("connections") == 2
            assert r.count("connections_opened_total") == 2
            kept.pop().close()
            await until(lambda: r.count("connections") == 1)
            kept.append(connect(r))
            await until(lambda: r.count("connections") == 2)
            for client in kept:
                client.close()

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert [record.message for record in caplog.records] == [
        "tcp: max-connections from 127.0.0.1: listen.max_connections is 2"  # once, not three times
    ]


@both_loops
def test_only_allowed_senders(run):
    limits = Limits(allowed_senders=(ipaddress.ip_network("127.0.0.2/32"),))

    async def main():
        async with receiving("[::]:0", limits=limits) as r:
            await closed_by_peer(connect(r))
            assert r.refused("sender-not-allowed") == 1
            with connect(r, source="127.0.0.2") as client:
                client.send(b"<13>yes\n")
                await until(lambda: r.sink.origins == {Origin("127.0.0.2", "tcp")})

    run_on(run, main())


@both_loops
def test_idle_connections_are_closed_and_busy_ones_not(run):
    async def main():
        async with receiving(limits=Limits(idle_timeout=SECOND // 4)) as r:
            idle, busy = connect(r), connect(r)
            idle.send(b"<13>then silence")
            ended = asyncio.ensure_future(closed_by_peer(idle))
            while not ended.done():
                busy.send(b"<13>tick\n")
                await asyncio.sleep(0.02)
            assert r.refused("idle") == 1
            assert r.count("connections") == 1
            assert b"<13>then silence" in r.sink.frames
            await closed_by_peer(busy)
            assert r.refused("idle") == 2

    run_on(run, main())


@both_loops
def test_a_connection_that_we_do_not_read_is_not_idle(run):
    async def main():
        async with receiving(limits=Limits(idle_timeout=SECOND // 10)) as r:
            r.sink.full = True
            with connect(r) as client:
                await until(lambda: r.count("connections") == 1)
                client.send(b"<13>waits\n")
                await asyncio.sleep(0.3)
                assert r.count("connections") == 1
                r.sink.make_room()
                await until(lambda: r.sink.frames == [b"<13>waits"])

    run_on(run, main())


@both_loops
def test_keepalive_is_on(run):
    async def main():
        async with receiving() as r:
            with connect(r):
                await until(lambda: r.count("connections") == 1)
                (connection,) = r.listener._connections
                accepted = connection._transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    run_on(run, main())


@needs_ipv6
@both_loops
def test_several_addresses(run):
    async def main():
        async with receiving("127.0.0.1:0", "[::1]:0") as r:
            assert [host for host, _ in r.listener.addresses] == ["127.0.0.1", "::1"]
            for address in r.listener.addresses:
                with socket.create_connection(address) as client:
                    client.send(b"<13>x\n")
            await until(lambda: r.sink.number == 2)
            assert r.sink.origins == {Origin("127.0.0.1", "tcp"), Origin("::1", "tcp")}

    run_on(run, main())


def test_the_same_address_twice_is_an_error():
    async def main():
        async with receiving() as r:
            with pytest.raises(ConfigError, match=r"^listen\.tcp: cannot bind .*Address already in use"):
                async with receiving(f"127.0.0.1:{r.port}"):
                    pass

    run_on("asyncio", main())


@both_loops
def test_an_absurd_count_costs_nothing(run):
    async def main():
        async with receiving(limits=Limits(max_message=1000)) as r:
            with connect(r) as client:
                client.send(b"99999999999999999999 <13>line\n999999999 <13>" + b"x" * 2000)
                await until(lambda: r.sink.number == 2)
                assert r.sink.frames[0] == b"99999999999999999999 <13>line"
                assert len(r.sink.frames[1]) == 1000

    run_on(run, main())
