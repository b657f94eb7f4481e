from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct

from logguardd.errors import UnavailableError
from logguardd.listeners.limits import Limits
from logguardd.listeners.relp import RelpListener
from logguardd.records import SECOND, Origin
from tests.listening import MemorySink, Receiving, both_loops, run_on, until, value

OFFERS = b"relp_version=0\nrelp_software=test\ncommands=syslog"
GOODBYE = b"0 serverclose 0\n"


class Client:
    """A RELP client that sends and reads as it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.number = 0

    def command(self, name: bytes, data: bytes = b"") -> int:
        self.number += 1
        self.writer.write(b"%d %s %d%s\n" % (self.number, name, len(data), b" " + data if data else b""))
        return self.number

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Return number, command and data of the next frame from the server."""
        number = await asyncio.wait_for(self.reader.readuntil(b" "), 5)
        command = await self.reader.readuntil(b" ")
        length = b""
        while (byte := await self.reader.readexactly(1)) not in (b" ", b"\n"):
            length += byte
        data = b""
        if byte == b" ":
            data = await self.reader.readexactly(int(length))
            assert await self.reader.readexactly(1) == b"\n"
        return int(number), command.strip(), data

    async def rest(self) -> bytes:
        """Read until the server closes."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(self.reader.read(10_000), 5):
                received += data
        await self.close()
        return received

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def receiving(*specs: str, **more) -> Receiving:
    return Receiving(RelpListener, *specs, **more)


async def session(r: Receiving) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", r.port))
    assert client.command(b"open", OFFERS) == 1
    number, command, data = await client.answer()
    assert (number, command, data[:6]) == (1, b"rsp", b"200 OK")
    return client


@both_loops
def test_a_session(run):
    async def main():
        async with receiving() as r:
            client = await session(r)
            for message in (b"<13>one", b"<13>two\nlines\n", b"", b"15 <13>no count!"):
                number = client.command(b"syslog", message)
                assert await client.answer() == (number, b"rsp", b"200 OK")
            client.command(b"close")
            assert await client.rest() == b"6 rsp 0\n" + GOODBYE
            assert r.sink.frames == [b"<13>one", b"<13>two#012lines", b"15 <13>no count!"]
            assert r.sink.origins == {Origin("127.0.0.1", "relp")}
            assert r.dropped("empty") == 1
            assert r.count("messages_total") == 3
            await until(lambda: r.count("connections") == 0)

    run_on(run, main())


@both_loops
def test_nothing_is_acknowledged_before_it_is_durable(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            for n in range(200):
                client.command(b"syslog", b"<13>%d" % n)
            client.command(b"syslog")  # empty, dropped: durable by nature, yet its turn comes after the others
            await until(lambda: r.sink.number == 200)
            answer = asyncio.ensure_future(client.answer())
            await asyncio.sleep(0.1)
            assert not answer.done()
            r.sink.commit()
            assert await answer == (2, b"rsp", b"200 OK")
            for n in range(3, 203):
                assert await client.answer() == (n, b"rsp", b"200 OK")
            await client.close()

    run_on(run, main())


@both_loops
def test_answers_keep_the_order_of_the_commands(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>first")
            await until(lambda: r.sink.number == 1)
            first, r.sink._futures = r.sink._futures, []
            client.command(b"syslog", b"<13>second")
            client.command(b"close")
            await until(lambda: r.sink.number == 2)
            r.sink.commit()  # the second is durable, the first not yet
            await asyncio.sleep(0.05)
            first[0].set_result(None)
            assert await client.rest() == b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 0\n" + GOODBYE

    run_on(run, main())


@both_loops
def test_when_the_journal_fails_the_sender_keeps_its_messages(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>x")
            await until(lambda: r.sink.number == 1)
            r.sink.commit(UnavailableError("disk full"))
            assert await client.rest() == b""
            assert r.refused("not-durable") == 1

    run_on(run, main())


@both_loops
def test_the_window_is_bounded(run):
    """A client that sends on without waiting for answers is not read any more."""

    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            total = 100_000
            for _ in range(total):
                client.command(b"syslog", b"<13>x")
            await until(lambda: r.sink.number >= 4096)
            await asyncio.sleep(0.2)
            taken = r.sink.number
            assert taken < 4096 + 256_000 / 20  # and what one read may hold
            await asyncio.sleep(0.1)
            assert r.sink.number == taken

            async def commit():
                while True:
                    r.sink.commit()
                    await asyncio.sleep(0)

            committing = asyncio.ensure_future(commit())
            expected = b"".join(b"%d rsp 6 200 OK\n" % n for n in range(2, total + 2))
            assert await asyncio.wait_for(client.reader.readexactly(len(expected)), 10) == expected
            committing.cancel()
            assert r.sink.number == total
            await client.close()

    run_on(run, main())


@both_loops
def test_a_client_that_does_not_read_its_answers(run):
    async def main():
        async with receiving(limits=Limits(idle_timeout=SECOND // 2)) as r:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", r.port))
                await loop.sock_sendall(client, b"1 open %d %s\n" % (len(OFFERS), OFFERS))

                async def pour():
                    with contextlib.suppress(OSError):
                        while True:
                            await loop.sock_sendall(client, b"2 syslog 5 <13>x\n" * 10_000)

                pouring = asyncio.ensure_future(pour())
                await until(lambda: r.count("connections") == 1)
                await until(lambda: r.count("connections") == 0, within=15)  # held back, and in the end closed
                assert r.refused("idle") == 1
                await pouring

    run_on(run, main())


@both_loops
def test_a_plain_sender_at_the_relp_port(run, caplog):
    async def main():
        async with receiving() as r:
            client = Client(*await asyncio.open_connection("127.0.0.1", r.port))
            client.writer.write(b"<13>plain\n")
            assert await client.rest() == GOODBYE
            assert r.refused("relp-protocol") == 1
            assert r.sink.number == 0

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert "relp: relp-protocol from 127.0.0.1: not a RELP frame" in caplog.text


@both_loops
def test_messages_that_are_too_long_are_truncated_and_acknowledged(run):
    async def main():
        async with receiving(limits=Limits(max_message=100)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>" + b"x" * 200_000)
            client.command(b"syslog", b"<13>" + b"y" * 96 + b"\r\n")
            assert [(await client.answer())[0], (await client.answer())[0]] == [2, 3]
            assert r.sink.frames == [b"<13>" + b"x" * 96, b"<13>" + b"y" * 96]
            assert value(r.metrics, "logguardd_truncated_total") == 1
            await client.close()

    run_on(run, main())


@both_loops
def test_a_message_cut_by_the_end_is_counted(run):
    async def main():
        async with receiving() as r:
            client = await session(r)
            client.writer.write(b"2 syslog 100 <13>cut")
            await client.writer.drain()
            await client.close()
            await until(lambda: r.dropped("partial") == 1)
            assert r.sink.number == 0

    run_on(run, main())


@both_loops
def test_a_half_closed_connection_still_gets_its_answers(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>x")
            client.writer.write_eof()
            await until(lambda: r.sink.number == 1)
            await asyncio.sleep(0.05)
            r.sink.commit()
            assert await client.rest() == b"2 rsp 6 200 OK\n"
            await until(lambda: r.count("connections") == 0)

    run_on(run, main())


@both_loops
def test_a_client_that_is_gone_before_its_messages_are_durable(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>x")
            await until(lambda: r.sink.number == 1)
            client.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            client.writer.transport.abort()  # so that it is a reset
            await until(lambda: r.count("connections") == 0)
            r.sink.commit()
            await asyncio.sleep(0.01)

    run_on(run, main())


@both_loops
def test_stopping_answers_what_is_durable_and_says_goodbye(run):
    async def main():
        async with receiving(sink=MemorySink(durable=False)) as r:
            client = await session(r)
            client.command(b"syslog", b"<13>x")
            await until(lambda: r.sink.number == 1)
            stopping = asyncio.ensure_future(r.listener.stop())
            await asyncio.sleep(0.05)
            r.sink.commit()
            assert await client.rest() == b"2 rsp 6 200 OK\n" + GOODBYE
            await stopping
            assert r.count("connections") == 0

    run_on(run, main())


@both_loops
def test_an_idle_session_is_told_goodbye(run):
    async def main():
        async with receiving(limits=Limits(idle_timeout=SECOND // 5)) as r:
            client = await session(r)
            assert await client.rest() == GOODBYE
            assert r.refused("idle") == 1

    run_on(run, main())


@both_loops
def test_a_full_sink_stops_reading(run):
    async def main():
        async with receiving() as r:
            client = await session(r)
            r.sink.full = True
            client.command(b"syslog", b"<13>the bound is soft by one read")
            await client.answer()
            client.command(b"syslog", b"<13>waits")
            await asyncio.sleep(0.1)
            assert r.sink.number == 1
            r.sink.make_room()
            await client.answer()
            assert r.sink.number == 2
            await client.close()

    run_on(run, main())
