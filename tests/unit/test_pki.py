"""The private certificate authority, judged by OpenSSL and Python's ssl."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from logguardd import pki
from logguardd.errors import ConfigError
from tests.servers.process import need

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)
NAMES = ["Logs.Example.NET", "192.0.2.1", "2001:DB8:0::1", "logs"]


@pytest.fixture(scope="module")
def authority() -> pki.Authority:
    return pki.Authority.create("logguardd CA of logs.example.net", NOW)


def written(folder: Path, **files: bytes) -> list[str]:
    """Write PEM files and return their paths."""
    for name, content in files.items():
        (folder / f"{name}.pem").write_bytes(content)
    return [str(folder / f"{name}.pem") for name in files]


def openssl(*argv: str) -> str:
    (program,) = need("openssl")
    done = subprocess.run([program, *argv], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory; return both sides, or raise what one of them raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname=name)
    waiting = [theirs, ours]
    for side in waiting * 4:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours, theirs


def contexts(folder: Path, authority: pki.Authority, server: pki.Issued, client: pki.Issued):
    """Return contexts of a server and a client that ask each other for certificates, as strict as Python gets."""
    paths = written(
        folder, ca=authority.certificate, cert=server.certificate, key=server.private_key,
        client=client.certificate, client_key=client.private_key,
    )  # fmt: skip
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=paths[0])
    ours.verify_mode = ssl.CERT_REQUIRED
    ours.load_cert_chain(paths[1], paths[2])
    theirs = ssl.create_default_context(cafile=paths[0])
    theirs.load_cert_chain(paths[3], paths[4])
    for context in (ours, theirs):
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    return ours, theirs


@pytest.mark.parametrize("name", ["logs.example.net", "192.0.2.1", "2001:db8::1", "logs"])
def test_both_sides_accept_each_other(tmp_path, authority, name) -> None:
    ours, theirs = contexts(
        tmp_path, authority, authority.server(NAMES, NOW), authority.client("web1.example.net", NOW)
    )
    server, client = shake_hands(ours, theirs, name)
    assert ("DNS", "web1.example.net") in server.getpeercert()["subjectAltName"]
    assert ("DNS", "logs.example.net") in client.getpeercert()["subjectAltName"]


def test_another_name_is_refused(tmp_path, authority) -> None:
    ours, theirs = contexts(tmp_path, authority, authority.server(NAMES, NOW), authority.client("web1", NOW))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(ours, theirs, "other.example.net")


def test_certificates_are_for_one_side_only(tmp_path, authority) -> None:
    server, client = authority.server(["logs.example.net"], NOW), authority.client("logs.example.net", NOW)
    ours, theirs = contexts(tmp_path, authority, client, client)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported certificate"):
        shake_hands(ours, theirs, "logs.example.net")
    ours, theirs = contexts(tmp_path, authority, server, server)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported certificate"):
        shake_hands(ours, theirs, "logs.example.net")


def test_another_authority_of_the_same_name_is_another(tmp_path, authority) -> None:
    other = pki.Authority.create("logguardd CA of logs.example.net", NOW)
    ours, theirs = contexts(tmp_path, authority, authority.server(NAMES, NOW), other.client("web1", NOW))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ours, theirs, "logs.example.net")
    assert authority.issued(authority.client("web1", NOW).certificate)
    assert not authority.issued(other.client("web1", NOW).certificate)
    assert not authority.issued(b"rubbish")
    assert authority.issued(authority.certificate)


def test_openssl_finds_nothing_wrong(tmp_path, authority) -> None:
    server, client = authority.server(NAMES, NOW), authority.client("web1.example.net", NOW)
    ca, first, second = written(
        tmp_path, ca=authority.certificate, server=server.certificate, client=client.certificate
    )
    assert "OK" in openssl("verify", "-x509_strict", "-CAfile", ca, "-purpose", "sslserver", first)
    assert "OK" in openssl("verify", "-x509_strict", "-CAfile", ca, "-purpose", "sslclient", second)
    text = openssl("x509", "-noout", "-text", "-in", first)
    assert "Public Key Algorithm: id-ecPublicKey" in text
    assert "NIST CURVE: P-256" in text
    assert "ecdsa-with-SHA256" in text
    assert "DNS:logs.example.net, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, DNS:logs" in text
    text = openssl("x509", "-noout", "-text", "-in", ca)
    assert "CA:TRUE, pathlen:0" in text
    assert "Certificate Sign, CRL Sign" in text


def test_lifetimes(authority) -> None:
    assert authority.expires == (NOW + pki.AUTHORITY_LIFETIME).replace(microsecond=0)
    described = pki.describe(authority.server(NAMES, NOW).certificate)
    assert described.names == ("logs.example.net", "logs", "192.0.2.1", "2001:db8::1")
    assert (described.server, described.client) == (True, False)
    assert described.expires == (NOW + pki.LIFETIME).replace(microsecond=0)
    late = authority.expires - timedelta(days=1)
    assert pki.describe(authority.client("web1", late).certificate).expires == authority.expires
    with pytest.raises(ConfigError, match="the authority's certificate ended at 20"):
        authority.client("web1", authority.expires)


def test_serial_numbers_and_keys_differ(tmp_path, authority) -> None:
    one, other = authority.client("web1", NOW), authority.client("web1", NOW)
    assert one.private_key != other.private_key
    serials = {
        openssl("x509", "-noout", "-serial", "-in", path)
        for path in written(tmp_path, one=one.certificate, other=other.certificate, ca=authority.certificate)
    }
    assert len(serials) == 3


def test_a_long_name_stands_in_the_alternatives_only(tmp_path, authority) -> None:
    name = ".".join(["a" * 60] * 4)
    (path,) = written(tmp_path, long=authority.client(name, NOW).certificate)
    text = openssl("x509", "-noout", "-text", "-in", path)
    assert "X509v3 Subject Alternative Name: critical" in text
    assert pki.describe((tmp_path / "long.pem").read_bytes()).names == (name,)


def test_an_authority_is_taken_over(authority) -> None:
    again = pki.Authority.load(authority.certificate, authority.private_key)
    assert again.certificate == authority.certificate
    assert authority.issued(again.client("web1", NOW).certificate)


def test_what_is_no_authority(authority) -> None:
    other = pki.Authority.create("other", NOW)
    for certificate, key, what in (
        (b"x", authority.private_key, "not a certificate in PEM"),
        (authority.certificate, b"x", "not a private key in PEM"),
        (authority.certificate, other.private_key, "the key does not belong to the authority's certificate"),
    ):
        with pytest.raises(ConfigError, match=what):
            pki.Authority.load(certificate, key)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-web1",
        "web1-.example",
        "web 1",
        "a..b",
        "*.example.net",
        "1.2.3",
        "x" * 64,
        "web1\n",
        "wéb",
        "fe80::1%eth0",
    ],
)
def test_what_is_no_name(authority, name) -> None:
    with pytest.raises(ConfigError, match="is neither the name of a host nor an address"):
        authority.client(name, NOW)


def test_a_server_without_a_name(authority) -> None:
    with pytest.raises(ConfigError, match="a certificate needs a name"):
        authority.server([], NOW)
