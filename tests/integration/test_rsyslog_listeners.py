"""A real rsyslogd with the snippets of etc/rsyslog, and logger(1), send to the listeners."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from logguardd.listeners.activation import Inherited
from logguardd.listeners.relp import RelpListener
from logguardd.listeners.stream import StreamListener
from logguardd.listeners.tls import TlsListener
from logguardd.listeners.tls_context import TlsSettings
from logguardd.listeners.udp import UdpListener
from logguardd.records import Origin
from tests.listening import MemorySink, Receiving, run_on, until
from tests.servers.certificates import Authority
from tests.servers.process import need, unavailable
from tests.servers.rsyslog import SNIPPETS, Rsyslogd, snippet

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES = Path("/usr/lib/x86_64-linux-gnu/rsyslog"), Path("/usr/lib/rsyslog"), Path("/usr/lib64/rsyslog")
TEMPLATES = ("RSYSLOG_SyslogProtocol23Format", "RSYSLOG_TraditionalForwardFormat", "RSYSLOG_ForwardFormat")
TEMPLATE = TEMPLATES[0]


def need_module(name: str) -> None:
    if not any((folder / f"{name}.so").exists() for folder in MODULES):
        unavailable(f"rsyslog's module {name} is not installed (run `make setup`)")


def lines(first: int, number: int) -> list[bytes]:
    return [b"<38>Oct 11 22:14:15 sshd[%d]: Failed password for root, number %d." % (n % 30_000, n)
            for n in range(first, first + number)]  # fmt: skip


def numbers(frames: list[bytes]) -> list[int]:
    found = [re.search(rb" sshd[\[ ].* number (\d+)\.\Z", frame) for frame in frames]
    assert None not in found, [frame for frame, match in zip(frames, found, strict=True) if match is None][:3]
    return [int(match[1]) for match in found if match]


async def deliver(config: str, folder: Path, r: Receiving, number: int) -> None:
    """Run rsyslogd with the configuration, give it lines, wait until all have come, none twice."""
    sender = Rsyslogd(folder, config)
    await asyncio.to_thread(sender.start)
    try:
        await asyncio.to_thread(sender.send, *lines(0, number))
        await until(lambda: r.sink.number >= number, within=30)
    finally:
        await asyncio.to_thread(sender.stop)
    assert sorted(numbers(r.sink.frames)) == list(range(number))  # rsyslogd itself has more than one worker


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("form", ["udp", "udp-legacy"])
def test_udp(form, template, tmp_path):
    async def main():
        async with Receiving(UdpListener) as r:
            await deliver(snippet(form, r.port, {TEMPLATE: template}), tmp_path / "rsyslog", r, 2000)
            assert r.sink.origins == {Origin("127.0.0.1", "udp")}

    run_on("uvloop", main(), timeout=60)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("framing", ["octet-counted", "traditional"])
def test_tcp(framing, template, tmp_path):
    async def main():
        async with Receiving(StreamListener) as r:
            config = snippet("tcp", r.port, {"octet-counted": framing, TEMPLATE: template})
            await deliver(config, tmp_path / "rsyslog", r, 5000)
            assert r.sink.origins == {Origin("127.0.0.1", "tcp")}

    run_on("uvloop", main(), timeout=60)


@pytest.mark.parametrize("framing", ["@@(o)", "@@"])
def test_tcp_legacy(framing, tmp_path):
    async def main():
        async with Receiving(StreamListener) as r:
            config = snippet("tcp-legacy", r.port, {"*.* @@(o)": f"*.* {framing}"})
            await deliver(config, tmp_path / "rsyslog", r, 5000)

    run_on("uvloop", main(), timeout=60)


@pytest.mark.parametrize("form", ["relp", "relp-legacy"])
def test_relp(form, tmp_path):
    need_module("omrelp")

    async def main():
        async with Receiving(RelpListener) as r:
            await deliver(snippet(form, r.port), tmp_path / "rsyslog", r, 5000)
            assert r.sink.origins == {Origin("127.0.0.1", "relp")}
            assert r.refused("relp-protocol") == 0

    run_on("uvloop", main(), timeout=60)


class Keys:
    """A server's settings, and what replaces the paths in the snippets for a client."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        server, server_key = authority.issue("logs.example.com")
        client, client_key = authority.issue("web1.example.com")
        self.settings = TlsSettings(
            str(server), str(server_key), client_ca=str(authority.certificate), permitted_peers=("*.example.com",)
        )
        self.client = {
            "/etc/rsyslog-tls/ca.pem": str(authority.certificate),
            "/etc/rsyslog-tls/cert.pem": str(client),
            "/etc/rsyslog-tls/key.pem": str(client_key),
        }


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("driver", ["ossl", "gtls"])
@pytest.mark.parametrize("form", ["tls", "tls-legacy"])
def test_tls(form, driver, keys, tmp_path):
    need_module(f"lmnsd_{driver}")

    async def main():
        async with Receiving(TlsListener, settings=keys.settings) as r:
            chosen = {
                "tls": {'StreamDriver="ossl"': f'StreamDriver="{driver}"'},
                "tls-legacy": {"$DefaultNetstreamDriver ossl": f"$DefaultNetstreamDriver {driver}"},
            }
            config = snippet(form, r.port, keys.client | chosen[form])
            await deliver(config, tmp_path / "rsyslog", r, 5000)
            assert r.sink.origins == {Origin("127.0.0.1", "tls", "web1.example.com")}
            assert r.refused("tls-handshake") == 0

    run_on("uvloop", main(), timeout=60)


def restart(kind: type, config: Callable[[int], str], folder: Path, *, lost: int, **more) -> list[int]:
    """Stop a listener while rsyslogd sends, start the next one on the same socket; return what all got but ``lost``.

    The socket stays open in between, as with socket activation.
    """
    kept = socket.create_server(("127.0.0.1", 0))
    number, got = 20_000, []

    def receiving() -> Receiving:
        inherited = Inherited([("s", socket.socket(fileno=socket.dup(kept.fileno())))])
        return Receiving(kind, "systemd:s", sink=MemorySink(), inherited=inherited, **more)

    async def main():
        sender = Rsyslogd(folder, config(kept.getsockname()[1]))
        await asyncio.to_thread(sender.start)
        try:
            sending = asyncio.ensure_future(asyncio.to_thread(sender.send, *lines(0, number)))
            for n in range(4):
                async with receiving() as r:
                    before = len(got)
                    await until(
                        lambda r=r, n=n, before=before: before + r.sink.number >= (n + 1) * number // 8, within=30
                    )
                got.extend(numbers(r.sink.frames))
            async with receiving() as r:
                await sending
                await until(lambda: len(set(got) | set(numbers(r.sink.frames))) >= number - lost, within=30)
            got.extend(numbers(r.sink.frames))
        finally:
            await asyncio.to_thread(sender.stop)

    with kept:
        run_on("uvloop", main(), timeout=100)
    return got


@pytest.mark.parametrize(("kind", "form"), [(StreamListener, "tcp"), (TlsListener, "tls"), (RelpListener, "relp")])
def test_a_restart_loses_nothing_with_relp_and_next_to_nothing_without(kind, form, keys, tmp_path):
    """Without RELP it takes luck: that rsyslogd sees our FIN before it sends; what it had sent by then is taken."""
    if form == "relp":
        need_module("omrelp")
    if form == "tls":
        need_module("lmnsd_ossl")
    replaced, more = (keys.client, {"settings": keys.settings}) if form == "tls" else ({}, {})
    # A connection cut in its handshake suspends the action, each time for longer.
    replaced = replaced | {'action.resumeInterval="5"': 'action.resumeInterval="1"'}
    lost = 0 if form == "relp" else 200
    got = restart(kind, lambda port: snippet(form, port, replaced), tmp_path / "rsyslog", lost=lost, **more)
    assert set(got) <= set(range(20_000))
    assert len(set(got)) >= 20_000 - lost


def logger(r: Receiving, *options: str) -> None:
    (program,) = need("logger")
    subprocess.run(
        [program, "--server", "127.0.0.1", "--port", str(r.port), "--tag", "probe", *options, "hello from logger"],
        check=True,
        timeout=20,
    )


@pytest.mark.parametrize("form", ["--rfc3164", "--rfc5424", "--rfc5424=notime,nohost"])
@pytest.mark.parametrize("count", [[], ["--octet-count"]], ids=["plain", "counted"])
@pytest.mark.parametrize(("kind", "transport"), [(UdpListener, "--udp"), (StreamListener, "--tcp")], ids=["udp", "tcp"])
def test_logger(kind, transport, count, form, tmp_path):
    async def main():
        async with Receiving(kind) as r:
            await asyncio.to_thread(logger, r, transport, *count, form)
            await until(lambda: r.sink.number == 1)
            (frame,) = r.sink.frames
            assert frame.startswith(b"<13>1 " if "5424" in form else b"<13>")
            assert b" probe" in frame
            assert frame.endswith(b"hello from logger")
            assert not r.dropped("empty")

    run_on("uvloop", main())


def test_the_snippets_are_all_tested():
    assert {path.stem for path in SNIPPETS.glob("*.conf")} == {
        form + suffix for form in ("udp", "tcp", "tls", "relp") for suffix in ("", "-legacy")
    }
