"""Health and metrics over TCP, and the control socket itself."""

import asyncio
import os
import socket
import stat

import pytest

from logguardd.errors import ConfigError, LogguarddError
from logguardd.web import Web
from tests.integration.serving import make_ban, serving


def test_health(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            status, headers, text = await served.ask("GET", "/healthz", tcp=True)
            assert (status, text) == (200, "ok\n")
            assert headers["connection"] == "close"
            status, _, content = await served.ask("GET", "/readyz", tcp=True)
            assert status == 200
            assert content == {
                "ready": True,
                "components": {
                    "journal": {"state": "up", "detail": "disk"},
                    "archive": {"state": "degraded", "detail": "PostgreSQL"},
                },
            }
            served.control.ready = False
            assert (await served.ask("GET", "/readyz", tcp=True))[0] == 503
            assert (await served.ask("GET", "/nothing", tcp=True))[::2] == (404, {"error": "Not Found"})
            status, headers, _ = await served.ask("POST", "/healthz", tcp=True)
            assert (status, headers["allow"]) == (405, "GET, HEAD")
            # What only operators may do is not served over TCP.
            assert (await served.ask("GET", "/status", tcp=True))[0] == 404

    asyncio.run(body())


def test_metrics(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            served.metrics.messages.labels("udp").inc(3)
            status, headers, text = await served.ask("GET", "/metrics", tcp=True)
            assert status == 200
            assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert 'logguardd_messages_total{transport="udp"} 3.0' in text

    asyncio.run(body())


def test_tcp_connections_are_bounded_in_number_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr("logguardd.web.MAX_CONNECTIONS", 3)
    monkeypatch.setattr("logguardd.web.MAX_SECONDS", 1.0)

    async def body():
        async with serving(tmp_path) as served:
            held = [await asyncio.open_connection("127.0.0.1", served.web.ports[0]) for _ in range(5)]
            for reader, _ in held[:2]:
                assert await asyncio.wait_for(reader.read(), 0.5) == b"", "the oldest make room"
            assert (await served.ask("GET", "/healthz", tcp=True))[0] == 200
            for reader, _ in held:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            for _, writer in held:
                writer.close()
            assert (await served.ask("GET", "/healthz", tcp=True))[0] == 200

    asyncio.run(body())


def test_who_only_holds_connections_keeps_nobody_out(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            held = [await asyncio.open_connection("127.0.0.1", served.web.ports[0]) for _ in range(200)]
            for _ in range(5):
                assert (await served.ask("GET", "/healthz", tcp=True))[0] == 200
            for _, writer in held:
                writer.close()

    asyncio.run(body())


def test_without_a_tcp_listener(tmp_path):
    async def body():
        async with serving(tmp_path, listen="") as served:
            assert served.web.ports == []
            assert (await served.ask("GET", "/status"))[0] == 200

    asyncio.run(body())


def test_a_taken_port_is_an_error_and_leaves_nothing_behind(tmp_path):
    async def body():
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(
                ConfigError, match=f"http.listen: cannot listen at 127.0.0.1:{port}: Address already in use"
            ):
                async with serving(tmp_path, listen=f"127.0.0.1:{port}"):
                    pass
        async with serving(tmp_path):
            pass

    asyncio.run(body())


def test_the_socket_is_for_the_group_only_and_removed(tmp_path):
    before = os.umask(0o022)
    try:

        async def body():
            async with serving(tmp_path):
                mode = (tmp_path / "control.sock").stat().st_mode
                assert stat.S_ISSOCK(mode)
                assert stat.S_IMODE(mode) == 0o660

        asyncio.run(body())
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "control.sock"))

    async def body():
        async with serving(tmp_path) as served:
            assert (await served.ask("GET", "/status"))[0] == 200

    asyncio.run(body())


def test_a_second_daemon_is_refused(tmp_path):
    async def body():
        async with serving(tmp_path) as served:
            with pytest.raises(LogguarddError, match=rf"another logguardd \(process {os.getpid()}\) has it"):
                async with serving(tmp_path):
                    pass
            assert (await served.ask("GET", "/status"))[0] == 200

    asyncio.run(body())


def test_a_socket_that_another_program_listens_at_is_left_alone(tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "control.sock"))
        other.listen()

        async def body():
            with pytest.raises(LogguarddError, match="another program listens there"):
                async with serving(tmp_path):
                    pass

        asyncio.run(body())
    assert (tmp_path / "control.sock").exists()


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path):
    (tmp_path / "control.sock").write_text("precious")

    async def body():
        with pytest.raises(ConfigError, match="exists and is not a socket"):
            async with serving(tmp_path):
                pass

    asyncio.run(body())
    assert (tmp_path / "control.sock").read_text() == "precious"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")

    async def body():
        with pytest.raises(ConfigError, match=r"http.control: cannot listen at .*control.sock"):
            async with serving(tmp_path / "file" / "folder"):
                pass

    asyncio.run(body())


def test_stopping_ends_followers_and_held_connections(tmp_path):
    async def body():
        async with serving(tmp_path, make_ban("192.0.2.1")) as served:
            idle, writer = await asyncio.open_connection("127.0.0.1", served.web.ports[0])
            async with served.follow() as reader:
                await reader.readline()
                await asyncio.wait_for(served.web.stop(), 5)
                assert b"192.0.2.1" in await asyncio.wait_for(reader.read(), 5)
            assert await asyncio.wait_for(idle.read(), 5) == b""
            writer.close()

    asyncio.run(body())


def test_who_is_answered_at_the_control_socket_is_answered_over_tcp(tmp_path, monkeypatch):
    started = Web._start_http

    async def late(web):
        with pytest.raises(OSError, match="refused"):
            await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
        await started(web)

    monkeypatch.setattr(Web, "_start_http", late)

    async def body():
        async with serving(tmp_path) as served:
            assert (await served.ask("GET", "/status"))[0] == 200

    asyncio.run(body())
