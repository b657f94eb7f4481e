"""Invariants 1 and 2 at the listeners: whatever comes, however it is cut, the same frames come out and nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logguardd.framing import Framer, datagrams, messages
from logguardd.listeners.limits import Limits
from logguardd.listeners.relp import RelpListener
from logguardd.listeners.relp_protocol import Messages, RelpProtocol
from logguardd.listeners.stream import StreamListener
from logguardd.listeners.tls import TlsListener
from logguardd.listeners.tls_context import TlsSettings
from logguardd.listeners.udp import UdpListener
from tests.listening import Receiving, both_loops, run_on, until
from tests.servers.certificates import Authority
from tests.wire import Wire, pieces

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = Limits(max_message=40)

# Bytes that framing has an opinion of are frequent, among any others.
noise = st.binary(max_size=200)
telling = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"\0", b"5 ", b"12 ", b"99 ", b"12345678901 ", b"<13>a", b"<34>1 - x", b" ", b"0", b"x" * 50]
    )
    | st.binary(max_size=8),
    max_size=40,
).map(b"".join)
streams = noise | telling
cuts = st.lists(st.integers(1, 60), max_size=60)

relp_frames = st.lists(st.binary(max_size=60), max_size=20).map(
    lambda payloads: [b"%d syslog %d %s\n" % (n, len(each), each) for n, each in enumerate(payloads, 2)]
)
OFFERS = b"relp_version=0\nrelp_software=test\ncommands=syslog"
OPEN = b"1 open %d %s\n" % (len(OFFERS), OFFERS)

lively = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def whole(data: bytes) -> tuple[list[bytes], dict[str, int]]:
    """The frames of a stream that comes in one piece, and what was dropped."""
    framer = Framer(LIMITS.max_message)
    parts = [framer.feed(data), framer.eof()]
    frames = [frame for part in parts if part.number for frame in part.frames.split(b"\n")]
    dropped: dict[str, int] = {}
    for part in parts:
        for reason, number in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
    return frames, dropped


async def play(r: Receiving, chunks: Iterable[bytes]) -> Wire:
    """Give chunks to a new connection, as reads, and then the end."""
    connection, wire = r.listener.connection(), Wire()
    connection.connection_made(wire)
    for chunk in chunks:
        if wire.closed:
            break
        connection.data_received(chunk)
        await asyncio.sleep(0)  # answers to what has become durable
    if not wire.closed:
        connection.eof_received()
        await asyncio.sleep(0)
    wire.closed = True
    connection.connection_lost(None)
    assert r.count("connections") == 0
    return wire


@lively
@given(streams, cuts)
def test_tcp_gives_the_same_frames_however_it_is_cut(data, sizes):
    async def main():
        r = Receiving(StreamListener, limits=LIMITS)
        await play(r, pieces(data, sizes))
        frames, dropped = whole(data)
        assert r.sink.frames == frames
        assert {reason: r.dropped(reason) for reason in dropped} == dropped
        assert r.count("messages_total") == len(frames)
        assert r.count("received_bytes_total") == len(data)

    run_on("asyncio", main())


@lively
@given(st.lists(streams, max_size=20))
def test_udp_gives_the_frames_of_the_datagrams(payloads):
    async def main():
        async with Receiving(UdpListener, limits=LIMITS) as r:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for payload in payloads:
                    sender.sendto(payload, r.listener.address)
            expected = datagrams(payloads, LIMITS.max_message)
            await until(lambda: r.count("received_bytes_total") == sum(map(len, payloads)))
            await r.listener.stop()
            assert b"\n".join(r.sink.frames) == expected.frames
            assert r.dropped("empty") == expected.dropped.get("empty", 0)

    run_on("asyncio", main())


# RELP


def talk(chunks: Iterable[bytes]) -> tuple[RelpProtocol, bytes, list[bytes]]:
    protocol, answers, payloads = RelpProtocol(LIMITS.max_message), b"", []
    for chunk in chunks:
        for step in protocol.feed(chunk):
            if isinstance(step, Messages):
                payloads += step.payloads
                answers += step.answer
            else:
                answers += step.data
    return protocol, answers, payloads


@lively
@given(
    st.one_of(noise, relp_frames.map(lambda frames: OPEN + b"".join(frames)), noise.map(lambda end: OPEN + end)), cuts
)
def test_relp_says_the_same_however_it_is_cut(data, sizes):
    one, answers, payloads = talk([data])
    cut, cut_answers, cut_payloads = talk(pieces(data, sizes))
    assert cut_answers == answers
    assert cut_payloads == payloads
    assert (cut.closed, cut.error, cut.partial) == (one.closed, one.error, one.partial)


@lively
@given(relp_frames, st.data())
def test_relp_survives_a_damaged_session(frames, data):
    session = bytearray(OPEN + b"".join(frames))
    for _ in range(data.draw(st.integers(0, 5))):
        session[data.draw(st.integers(0, len(session) - 1))] = data.draw(st.integers(0, 255))
    sizes = data.draw(cuts)
    assert talk([bytes(session)])[1:] == talk(pieces(bytes(session), sizes))[1:]


@lively
@given(relp_frames, cuts)
def test_relp_puts_and_acknowledges_every_message(frames, sizes):
    async def main():
        r = Receiving(RelpListener, limits=LIMITS)
        wire = await play(r, pieces(OPEN + b"".join(frames), sizes))
        payloads = [frame.split(b" ", 3)[3][:-1] for frame in frames]
        expected = messages(payloads, LIMITS.max_message)
        assert b"\n".join(r.sink.frames) == expected.frames
        assert r.dropped("empty") == expected.dropped.get("empty", 0)
        acknowledged = b"".join(b"%d rsp 6 200 OK\n" % n for n in range(2, len(frames) + 2))
        assert bytes(wire.written).partition(b"commands=syslog\n")[2] == acknowledged

    run_on("asyncio", main())


@lively
@given(streams, cuts)
def test_relp_closes_on_rubbish(data, sizes):
    async def main():
        r = Receiving(RelpListener, limits=LIMITS)
        await play(r, pieces(data, sizes))
        assert r.sink.number == 0

    run_on("asyncio", main())


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def tls_settings(authority) -> TlsSettings:
    certificate, key = authority.issue("logs.example.com")
    return TlsSettings(str(certificate), str(key), client_ca=str(authority.certificate))


@pytest.fixture(scope="module")
def client_context(authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(*authority.issue("web1.example.com"))
    return context


@settings(lively, max_examples=60)
@given(streams, cuts, st.booleans())
def test_tls_gives_the_same_frames_however_it_is_cut(tls_settings, client_context, data, sizes, goodbye):
    async def main():
        r = Receiving(TlsListener, settings=tls_settings, limits=LIMITS)
        connection, wire = r.listener.connection(), Wire()
        connection.connection_made(wire)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(incoming, outgoing, server_hostname="logs.example.com")
        forever = itertools.chain(sizes, itertools.repeat(1000))
        done = False
        while not done:
            try:
                client.do_handshake()
                done = True
                for piece in pieces(data, [n * 7 for n in sizes]):  # records, cut elsewhere than the reads
                    client.write(piece)
                if goodbye:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        client.unwrap()
            except ssl.SSLWantReadError:
                pass
            for chunk in pieces(outgoing.read(), forever):
                connection.data_received(chunk)
            incoming.write(bytes(wire.written))
            wire.written.clear()
        assert wire.closed == goodbye
        if not goodbye:
            connection.eof_received()
        connection.connection_lost(None)
        frames, dropped = whole(data)
        assert r.sink.frames == frames
        assert {reason: r.dropped(reason) for reason in dropped} == dropped
        assert all(origin.tls_identity == "web1.example.com" for origin in r.sink.origins)
        assert r.refused("tls-handshake") == 0

    run_on("asyncio", main())


@settings(lively, max_examples=60)
@given(streams | noise.map(lambda rest: b"\x16\x03\x01\x00" + rest), cuts)
def test_tls_closes_on_rubbish(tls_settings, data, sizes):
    async def main():
        r = Receiving(TlsListener, settings=tls_settings, limits=LIMITS)
        await play(r, pieces(data, sizes))
        assert r.sink.number == 0
        assert r.refused("tls-handshake") == 1

    run_on("asyncio", main())


# Over real sockets, on both loops


@both_loops
@pytest.mark.parametrize("kind", [StreamListener, RelpListener, TlsListener])
def test_rubbish_over_sockets(run, kind, tls_settings):
    @settings(lively, max_examples=25)
    @given(streams, cuts)
    def send(data, sizes):
        async def main():
            more = {"settings": tls_settings} if kind is TlsListener else {}
            async with Receiving(kind, limits=LIMITS, **more) as r:
                reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
                with contextlib.suppress(OSError, RuntimeError):  # the listener may have closed already
                    for piece in pieces(data, sizes):
                        writer.write(piece)
                        await asyncio.sleep(0)
                    writer.write_eof()
                    await reader.read()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                await until(lambda: r.count("connections") == 0 and r.count("connections_opened_total") == 1)
                assert r.sink.frames == (whole(data)[0] if kind is StreamListener else [])

        run_on(run, main())

    send()
