from __future__ import annotations

import hashlib
import logging
import ssl

import pytest

from logguardd.listeners.tls_context import TlsSettings
from tests.listening import both_loops, run_on, until
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


def permitting(mutual: TlsSettings, *peers: str) -> TlsSettings:
    return TlsSettings(mutual.certificate, mutual.private_key, mutual.client_ca, peers)


@both_loops
@pytest.mark.parametrize("peers", [("WEB1.example.com",), ("*.example.com",), ("other", "*.example.com")])
def test_permitted_names(run, peers, authority, mutual):
    async def main():
        async with receiving(permitting(mutual, *peers)) as r:
            reader, writer = await connect(r, client_context(authority, "web1.example.com"))
            writer.write(b"<13>x\n")
            await until(lambda: r.sink.number == 1)
            writer.close()
            await ended(reader, writer)

    run_on(run, main())


@both_loops
@pytest.mark.parametrize("peers", [("web2.example.com",), ("*.example.org",), ("*.web1.example.com",)])
def test_a_peer_that_is_not_permitted_is_named_for_the_operator(run, peers, authority, mutual, caplog):
    context = client_context(authority, "web1.example.com")
    pem = (authority.folder / "web1.example.com.pem").read_text()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest().hex(":").upper()

    async def main():
        async with receiving(permitting(mutual, *peers)) as r:
            reader, writer = await connect(r, context)
            writer.write(b"<13>no\n")
            await ended(reader, writer)
            assert r.refused("peer-not-permitted") == 1
            assert r.sink.number == 0

    with caplog.at_level(logging.WARNING):
        run_on(run, main())
    assert (
        "tls: peer-not-permitted from 127.0.0.1: not in tls.permitted_peers: web1.example.com, 127.0.0.1, ::1, "
        f"SHA256:{digest}"
    ) in caplog.text


@both_loops
@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_permitted_fingerprints(run, kind, authority, mutual):
    context = client_context(authority, "web3.example.com")
    pem = (authority.folder / "web3.example.com.pem").read_text()
    digest = hashlib.new(kind, ssl.PEM_cert_to_DER_cert(pem)).digest()

    async def main():
        async with receiving(permitting(mutual, f"{kind.upper()}:{digest.hex(':').upper()}")) as r:
            reader, writer = await connect(r, context)
            writer.write(b"<13>x\n")
            await until(lambda: r.sink.number == 1)
            writer.close()
            await ended(reader, writer)
            await turned_away(r, client_context(authority, "web4.example.com"))
            assert r.refused("peer-not-permitted") == 1

    run_on(run, main())
