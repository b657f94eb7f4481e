from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import subprocess
import sys
import time

import pytest

from logguardd.errors import ConfigError
from logguardd.listeners.activation import Inherited
from logguardd.listeners.limits import Limits
from logguardd.listeners.udp import UdpListener
from logguardd.records import Origin
from tests.listening import Receiving, both_loops, needs_ipv6, run_on, until, value


def receiving(*specs: str, **more) -> Receiving:
    return Receiving(UdpListener, *specs, **more)


def send(address, *payloads: bytes, source: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        for payload in payloads:
            sender.sendto(payload, (address[0], address[1]))


@both_loops
def test_one_datagram_is_one_frame(run):
    async def main():
        async with receiving() as r:
            send(r.listener.address, b"<13>one", b"<13>two\n", b"<13>three\nlines\0\n", b"13 <13>counted.", b"")
            await until(lambda: r.sink.number == 4 and r.dropped("empty"))
            assert r.sink.frames == [b"<13>one", b"<13>two", b"<13>three#012lines#000", b"13 <13>counted."]
            assert r.sink.origins == {Origin("127.0.0.1", "udp")}
            assert r.count("messages_total") == 4
            assert r.count("received_bytes_total") == 7 + 8 + 17 + 15

    run_on(run, main())


@needs_ipv6
@both_loops
def test_both_families_on_one_dual_stack_socket(run):
    async def main():
        async with receiving("[::]:0") as r:
            port = r.port
            send(("127.0.0.1", port), b"four")
            send(("::1", port), b"six", source="::1")
            await until(lambda: r.sink.number == 2)
            assert {(origin.peer, framed.frames) for origin, framed in r.sink.puts} == {
                ("127.0.0.1", b"four"),
                ("::1", b"six"),
            }

    run_on(run, main())


@both_loops
def test_what_has_arrived_together_is_put_together_for_each_peer(run):
    async def main():
        async with receiving("0.0.0.0:0") as r:
            port = r.port
            for n in range(10):
                for host in (b"1", b"2", b"3"):
                    send(
                        ("127.0.0.1", port),
                        b"<13>%s from %s" % (str(n).encode(), host),
                        source=f"127.0.0.{host.decode()}",
                    )
            await until(lambda: r.sink.number == 30)
            assert len(r.sink.puts) == 3
            for origin, framed in r.sink.puts:
                host = origin.peer[-1].encode()
                assert framed.frames.split(b"\n") == [b"<13>%d from %s" % (n, host) for n in range(10)]

    run_on(run, main())


@both_loops
def test_the_longest_datagram_and_one_that_is_too_long(run):
    async def main():
        async with receiving(limits=Limits(max_message=60_000)) as r:
            send(r.listener.address, b"a" * 60_000, b"b" * 65_507)
            await until(lambda: r.sink.number == 2)
            assert [len(frame) for frame in r.sink.frames] == [60_000, 60_000]
            assert value(r.metrics, "logguardd_truncated_total") == 1

    run_on(run, main())


@both_loops
def test_while_the_sink_is_full_datagrams_are_dropped_and_counted(run, caplog):
    async def main():
        async with receiving() as r:
            r.sink.full_of_datagrams = True
            send(r.listener.address, *[b"lost"] * 700)
            await until(lambda: r.dropped("queue-full") == 700)
            assert r.sink.number == 0
            r.sink.make_room()
            send(r.listener.address, b"kept")
            await until(lambda: r.sink.frames == [b"kept"])

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert caplog.text.count("udp: queue-full from everybody: datagrams dropped, the journal does not keep up") == 1


@both_loops
def test_while_the_sink_is_full_it_is_shown_what_is_dropped_if_it_wants_to(run):
    async def main():
        async with receiving() as r:
            r.sink.full_of_datagrams = r.sink.watching = True
            send(r.listener.address, b"<13>seen", b"<13>too")
            await until(lambda: r.dropped("queue-full") == 2)
            assert b"\n".join(framed.frames for _, framed in r.sink.seen) == b"<13>seen\n<13>too"
            assert {origin.peer for origin, _ in r.sink.seen} == {"127.0.0.1"}
            assert r.sink.number == 0

    run_on(run, main())


@needs_ipv6
@both_loops
def test_only_allowed_senders(run, caplog):
    networks = tuple(ipaddress.ip_network(each) for each in ("127.0.0.2/32", "::1/128"))

    async def main():
        async with receiving("[::]:0", limits=Limits(allowed_senders=networks)) as r:
            port = r.port
            send(("127.0.0.1", port), b"no", b"no", source="127.0.0.1")
            send(("127.0.0.1", port), b"yes", source="127.0.0.2")
            send(("::1", port), b"yes too", source="::1")
            await until(lambda: r.sink.number == 2)
            assert sorted(r.sink.frames) == [b"yes", b"yes too"]
            await until(lambda: r.dropped("sender-not-allowed") == 2)

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert caplog.text.count("udp: sender-not-allowed from 127.0.0.1: not in listen.allowed_senders") == 1


@both_loops
def test_what_the_kernel_drops_is_counted(run):
    async def main():
        async with receiving(buffer_size=4096) as r:
            r.listener.pause()  # nobody reads, so the buffer fills
            send(r.listener.address, *[b"x" * 500] * 400)
            await r.listener.stop()
            assert r.sink.number + r.dropped("socket-buffer") == 400
            assert r.dropped("socket-buffer") > 0

    run_on(run, main())


@both_loops
def test_the_kernels_drops_show_while_running(run):
    async def main():
        async with receiving(buffer_size=4096) as r:
            send(r.listener.address, *[b"x" * 500] * 400)  # at once, so the loop cannot read in between
            await until(lambda: r.sink.number + r.dropped("socket-buffer") == 400)
            assert r.dropped("socket-buffer") > 0

    run_on(run, main())


@both_loops
def test_stopping_takes_what_had_arrived(run):
    async def main():
        async with receiving() as r:
            send(r.listener.address, *[b"%d" % (n + 100) for n in range(900)])
            r.listener.pause()
            await asyncio.sleep(0.01)
            assert r.sink.number == 0
            await r.listener.stop()
            assert r.sink.number == 900
            await r.listener.stop()  # again: nothing happens

    run_on(run, main())


@both_loops
def test_a_socket_of_systemd_keeps_its_datagrams_for_the_next_process(run):
    kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kept.bind(("127.0.0.1", 0))

    async def main(n: int):
        taken = socket.socket(fileno=os.dup(kept.fileno()))
        async with receiving("systemd:udp", inherited=Inherited([("udp", taken)])) as r:
            address = r.listener.address
            send(address, b"%d" % n)
            await until(lambda: r.sink.number == (1 if n == 0 else 2))
            r.listener.pause()
            send(address, b"late")
            await r.listener.stop()
            assert r.sink.frames == ([b"0"] if n == 0 else [b"late", b"1"])

    with kept:
        run_on(run, main(0))
        run_on(run, main(1))


@both_loops
def test_a_small_receive_buffer_is_told(run, caplog):
    async def main():
        async with receiving(buffer_size=1 << 30) as r:
            assert r.listener.receive_buffers[0] > 0
            granted_all = r.listener.receive_buffers[0] >= 1 << 30
        told = [record.message for record in caplog.records if "net.core.rmem_max" in record.message]
        assert len(told) == (0 if granted_all else 1)

    with caplog.at_level(logging.WARNING):
        run_on(run, main())


def test_errors_name_the_key():
    async def main():
        async with receiving() as r:
            with pytest.raises(
                ConfigError, match=r"^listen\.udp: cannot bind 127\.0\.0\.1:\d+: Address already in use"
            ):
                async with receiving(f"127.0.0.1:{r.port}"):
                    pass

    run_on("asyncio", main())


# A process of its own: a thread would share the interpreter's lock with the loop.
PUMP = """
import socket, sys, time
port, rate, total = map(int, sys.argv[1:])
message = b"<34>Oct 11 22:14:15 web1 sshd[123]: Failed password for root from 203.0.113.5 port 40022 ssh2"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.connect(("127.0.0.1", port))
    start, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - start) * rate))
        for _ in range(due - sent):
            sender.send(message)
        sent = due
        time.sleep(0.001)
"""


@both_loops
def test_nothing_is_lost_at_20000_a_second_while_the_loop_is_busy(run):
    """Two seconds of 20,000 datagrams/s, while something else takes the loop for 5 ms at a time."""
    rate, total = 20_000, 40_000

    async def main():
        async with receiving() as r:

            async def busy():
                while True:
                    end = time.monotonic() + 0.005
                    while time.monotonic() < end:
                        pass
                    await asyncio.sleep(0)

            other = asyncio.create_task(busy())
            argv = [sys.executable, "-c", PUMP, *map(str, (r.port, rate, total))]
            with subprocess.Popen(argv) as pump:  # noqa: ASYNC220 - only starts it
                await until(lambda: pump.poll() is not None, within=25)
                await until(lambda: r.sink.number + r.dropped("socket-buffer") == total)
            other.cancel()
            assert pump.returncode == 0
            assert r.sink.number == total

    run_on(run, main())
