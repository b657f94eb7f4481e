from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import warnings

import pytest

from logguardd.errors import ConfigError
from logguardd.listeners.limits import Limits
from logguardd.listeners.tls_context import TlsSettings
from logguardd.records import SECOND, Origin
from tests.listening import both_loops, run_on, until, value
from tests.servers.certificates import Authority
from tests.tls_clients import client_context, connect, ended, receiving, turned_away


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority) -> TlsSettings:
    certificate, key = authority.issue("logs.example.com")
    return TlsSettings(str(certificate), str(key))


@pytest.fixture(scope="module")
def mutual(authority, server) -> TlsSettings:
    return TlsSettings(server.certificate, server.private_key, client_ca=str(authority.certificate))


@both_loops
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_frames_over_tls(run, version, authority, server):
    async def main():
        context = client_context(authority)
        context.maximum_version = version
        async with receiving(server) as r:
            reader, writer = await connect(r, context)
            big = b"<13>" + b"x" * 50_000
            writer.write(b"11 <13>counted<13>lf\n" + big + b"\n<13>un")
            writer.write(b"ended")
            await writer.drain()
            await until(lambda: r.sink.number == 3)
            writer.close()
            await ended(reader, writer)
            await until(lambda: r.count("connections") == 0)
            assert r.sink.frames == [b"<13>counted", b"<13>lf", big, b"<13>unended"]
            assert r.sink.origins == {Origin("127.0.0.1", "tls", "")}
            assert r.count("messages_total") == 4
            assert r.count("received_bytes_total") == 21 + len(big) + 12

    run_on(run, main())


@both_loops
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_in_the_clients_certificate_is_the_identity(run, version, authority, mutual):
    async def main():
        context = client_context(authority, "web1.example.com")
        context.maximum_version = version
        async with receiving(mutual) as r:
            reader, writer = await connect(r, context)
            writer.write(b"<13>x\n")
            await until(lambda: r.sink.origins == {Origin("127.0.0.1", "tls", "web1.example.com")})
            writer.close()
            await ended(reader, writer)

    run_on(run, main())


@both_loops
def test_a_message_in_the_same_segment_as_the_end_of_the_handshake_and_the_goodbye(run, authority, mutual):
    """As a program does that connects, logs one line and ends."""

    async def main():
        async with receiving(mutual) as r:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context(authority, "once.example.com").wrap_bio(
                incoming, outgoing, server_hostname="logs.example.com"
            )
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", r.port)) as client:
                client.setblocking(False)
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        await loop.sock_sendall(client, outgoing.read())
                        incoming.write(await loop.sock_recv(client, 65536))
                tls.write(b"<13>only line")
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                client.send(outgoing.read())
            await until(lambda: r.count("connections") == 0)
            assert r.sink.puts[0][0] == Origin("127.0.0.1", "tls", "once.example.com")
            assert r.sink.frames == [b"<13>only line"]
            assert r.refused("tls-handshake") == 0

    run_on(run, main())


@both_loops
def test_a_client_without_a_certificate_is_turned_away_with_an_alert(run, authority, mutual, caplog):
    async def main():
        async with receiving(mutual) as r:
            for _ in range(3):
                assert "certificate required" in (await turned_away(r, client_context(authority))).lower()
            await until(lambda: r.refused("tls-handshake") == 3)
            assert r.sink.number == 0

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert [record.message for record in caplog.records] == [
        "tls: tls-handshake from 127.0.0.1: peer did not return a certificate"  # once in ten seconds
    ]


@both_loops
def test_a_clients_certificate_of_another_authority(run, authority, mutual, tmp_path, caplog):
    stranger = Authority(tmp_path / "other", "Other CA")
    context = client_context(authority)
    context.load_cert_chain(*stranger.issue("web1.example.com"))

    async def main():
        async with receiving(mutual) as r:
            await turned_away(r, context)
            await until(lambda: r.refused("tls-handshake") == 1)

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert "tls-handshake from 127.0.0.1: client certificate: unable to get local issuer certificate" in caplog.text


@both_loops
def test_tls_1_1_is_refused(run, authority, server):
    context = client_context(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    async def main():
        async with receiving(server) as r:
            assert await turned_away(r, context)
            await until(lambda: r.refused("tls-handshake") == 1)

    run_on(run, main())


@both_loops
def test_a_plain_sender_at_the_tls_port(run, server, caplog):
    async def main():
        async with receiving(server) as r:
            with socket.create_connection(("127.0.0.1", r.port)) as client:
                client.send(b"<13>plain text of a sender that was not told\n")
                await until(lambda: r.refused("tls-handshake") == 1)
                await until(lambda: r.count("connections") == 0)
            assert r.sink.number == 0

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert "tls: tls-handshake from 127.0.0.1: it does not speak TLS" in caplog.text


@both_loops
def test_a_handshake_that_takes_too_long(run, server, caplog):
    async def main():
        async with receiving(server, limits=Limits(handshake_timeout=SECOND // 5)) as r:
            with socket.create_connection(("127.0.0.1", r.port)):
                await until(lambda: r.refused("tls-handshake") == 1)
                await until(lambda: r.count("connections") == 0)

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert "tls: tls-handshake from 127.0.0.1: not done in 0.2 s" in caplog.text


@both_loops
def test_a_connection_that_ends_within_the_handshake(run, server):
    async def main():
        async with receiving(server) as r:
            socket.create_connection(("127.0.0.1", r.port)).close()
            await until(lambda: r.refused("tls-handshake") == 1)
            await until(lambda: r.count("connections") == 0)

    run_on(run, main())


@both_loops
def test_handshakes_count_as_connections_and_end_with_the_listener(run, server):
    async def main():
        async with receiving(server, limits=Limits(max_connections=1)) as r:
            with socket.create_connection(("127.0.0.1", r.port)):
                await until(lambda: r.count("connections") == 1)
                with socket.create_connection(("127.0.0.1", r.port)):
                    await until(lambda: r.refused("max-connections") == 1)
                await r.listener.stop()
                assert r.count("connections") == 0

    run_on(run, main())


@both_loops
def test_at_the_bound_the_longest_handshake_gives_way_and_no_connection_that_is_done(run, authority, server):
    """Whoever has no certificate cannot keep out those who have."""

    async def main():
        async with receiving(server, limits=Limits(max_connections=3)) as r:
            done = [await connect(r, client_context(authority))]
            silent = [await asyncio.open_connection("127.0.0.1", r.port) for _ in range(2)]
            await until(lambda: r.count("connections") == 3)
            for reader, _ in silent:
                done.append(await connect(r, client_context(authority)))
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            assert r.refused("max-connections") == 2
            for _, writer in done:
                writer.write(b"<13>x\n")
            await until(lambda: r.sink.number == 3)
            silent.append(await asyncio.open_connection("127.0.0.1", r.port))
            await until(lambda: r.refused("max-connections") == 3)
            assert r.count("connections") == 3
            for _, writer in (*done, *silent):
                writer.close()
            for connection in (*done, *silent):
                await ended(*connection)

    run_on(run, main())


@both_loops
def test_reloading_keeps_open_connections_and_uses_the_new_files_for_new_ones(run, authority, server, tmp_path):
    other = Authority(tmp_path / "new", "New CA")
    certificate, key = other.issue("logs.example.com", days=300)

    async def main():
        async with receiving(server) as r:
            reader, old = await connect(r, client_context(authority))
            old.write(b"<13>before\n")
            await until(lambda: r.sink.number == 1)

            with pytest.raises(ConfigError, match=r"^tls\.private_key: .*does not belong to the certificate"):
                r.listener.reload(TlsSettings(str(certificate), server.private_key))
            again = await connect(r, client_context(authority))  # still the old files

            end = "logguardd_tls_certificate_not_after_timestamp_seconds"
            before = value(r.metrics, end, listener="tls")
            r.listener.reload(TlsSettings(str(certificate), str(key)))
            assert value(r.metrics, end, listener="tls") > before > 0
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(r, client_context(authority))
            new = await connect(r, client_context(other))
            old.write(b"<13>after\n")
            new[1].write(b"<13>new\n")
            await until(lambda: r.sink.number == 3)
            for each in ((reader, old), again, new):
                each[1].close()
                await ended(*each)

    run_on(run, main())


@both_loops
def test_a_full_sink_stops_reading(run, authority, server):
    async def main():
        async with receiving(server) as r:
            reader, writer = await connect(r, client_context(authority))
            r.sink.full = True
            writer.write(b"<13>x\n" * 2_000_000)
            await asyncio.sleep(0.3)
            taken = r.sink.number
            assert taken < 200_000
            await asyncio.sleep(0.1)
            assert r.sink.number == taken
            r.sink.make_room()
            await until(lambda: r.sink.number == 2_000_000)
            writer.close()
            await ended(reader, writer)

    run_on(run, main())


@both_loops
def test_stopping_takes_what_was_received(run, authority, server):
    async def main():
        async with receiving(server) as r:
            reader, writer = await connect(r, client_context(authority))
            writer.write(b"<13>whole\n<13>unfinished")
            await until(lambda: r.sink.number == 1)
            stopping = asyncio.ensure_future(r.listener.stop())
            await ended(reader, writer)
            await stopping
            assert r.sink.frames == [b"<13>whole", b"<13>unfinished"]
            assert r.count("connections") == 0

    run_on(run, main())


@both_loops
def test_broken_records_close_the_connection(run, authority, server):
    async def main():
        async with receiving(server) as r:
            reader, writer = await connect(r, client_context(authority))
            writer.write(b"<13>whole\n<13>then rubbish")
            await until(lambda: r.sink.number == 1)
            with socket.socket(fileno=os.dup(writer.transport.get_extra_info("socket").fileno())) as raw:
                raw.send(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            await ended(reader, writer)
            await until(lambda: r.count("connections") == 0)
            assert r.refused("tls") == 1
            assert r.sink.frames == [b"<13>whole", b"<13>then rubbish"]

    run_on(run, main())
