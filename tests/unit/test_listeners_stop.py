from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from logguardd.listeners.activation import Inherited
from logguardd.listeners.stream import StreamListener
from tests.listening import Receiving, both_loops, run_on, until


def receiving(*specs: str, **more) -> Receiving:
    return Receiving(StreamListener, *specs, **more)


def connect(r: Receiving, source: str = "127.0.0.1") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", r.port), source_address=(source, 0))
    client.setblocking(False)
    return client


@both_loops
def test_pausing_refuses_new_connections_and_keeps_the_open_ones(run):
    async def main():
        async with receiving() as r:
            port = r.port
            with connect(r) as client:
                await until(lambda: r.count("connections") == 1)
                r.listener.pause()
                await asyncio.sleep(0)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))
                client.send(b"<13>still\n")
                await until(lambda: r.sink.frames == [b"<13>still"])

    run_on(run, main())


@both_loops
def test_stopping_takes_what_is_under_way(run):
    """A sender sees our FIN and stops; what it had sent before is taken, the unfinished frame too."""

    async def main():
        async with receiving() as r:
            client = connect(r)
            await until(lambda: r.count("connections") == 1)
            stopping = asyncio.ensure_future(r.listener.stop())
            sent = 0
            while True:
                client.send(b"<13>%d\n" % sent)
                sent += 1
                try:
                    if client.recv(1) == b"":
                        break
                except BlockingIOError:
                    pass
                await asyncio.sleep(0)
            client.send(b"<13>unfinished")
            client.close()
            await stopping
            assert r.sink.frames == [b"<13>%d" % n for n in range(sent)] + [b"<13>unfinished"]
            assert r.count("connections") == 0

    run_on(run, main())


@both_loops
def test_stopping_does_not_wait_for_those_who_never_end(run):
    async def main():
        async with receiving() as r:
            silent, endless = connect(r), connect(r)
            silent.send(b"<13>unfinished")
            await until(lambda: r.count("connections") == 2)

            async def pour():
                with contextlib.suppress(OSError):
                    while True:
                        await asyncio.get_running_loop().sock_sendall(endless, b"<13>more\n")
                        await asyncio.sleep(0.001)

            pouring = asyncio.ensure_future(pour())
            start = asyncio.get_running_loop().time()
            await r.listener.stop()
            assert asyncio.get_running_loop().time() - start < 2.5
            assert b"<13>unfinished" in r.sink.frames
            assert r.count("connections") == 0
            await pouring
            silent.close()
            endless.close()

    run_on(run, main())


@both_loops
def test_a_listening_socket_of_systemd_goes_on_listening(run):
    kept = socket.create_server(("127.0.0.1", 0))

    async def main(frame: bytes):
        taken = socket.socket(fileno=socket.dup(kept.fileno()))
        async with receiving("systemd:tcp", inherited=Inherited([("tcp", taken)])) as r:
            with connect(r) as client:
                client.send(frame + b"\n")
                await until(lambda: r.sink.frames == [frame])

    with kept:
        run_on(run, main(b"first"))
        between = socket.create_connection(kept.getsockname())  # nobody listens now, yet nothing is lost
        between.close()
        run_on(run, main(b"second"))


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_under_way_when_stopping_is_taken_or_left_to_systemd(turns):
    """Between the kernel's accept and connection_made the loop takes some turns: stopping waits for them.

    Only on uvloop, on which the daemon runs: asyncio's Server.close drops a connection that it is just taking.
    """
    kept = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept.setblocking(False)

    async def main():
        taken = socket.socket(fileno=socket.dup(kept.fileno()))
        async with receiving("systemd:tcp", inherited=Inherited([("tcp", taken)])) as r:
            await asyncio.sleep(0.01)
            for number in range(20):
                with connect(r) as client:
                    client.send(b"<13>%d\n" % number)
            for _ in range(turns):
                await asyncio.sleep(0)
        frames = list(r.sink.frames)
        with contextlib.suppress(BlockingIOError):
            while True:
                left, _ = kept.accept()
                frames.append(left.recv(100).rstrip())
                left.close()
        assert sorted(frames) == sorted(b"<13>%d" % number for number in range(20))
        assert r.refused("stopping") == 0

    with kept:
        run_on("uvloop", main())
