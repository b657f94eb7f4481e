from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from logguardd.errors import ConfigError
from logguardd.listeners.tls_context import TlsSettings, build_context, certificate_end
from logguardd.listeners.tls_peers import certificate_names, permitted_peer
from tests.servers.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(authority) -> tuple[str, str]:
    certificate, key = authority.issue("logs.example.com")
    return str(certificate), str(key)


def complaint(*args, **kwargs) -> str:
    with pytest.raises(ConfigError) as caught:
        build_context(TlsSettings(*args, **kwargs))
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    assert ".c:" not in message
    return message


def test_good_files(authority, files):
    context, warnings = build_context(TlsSettings(*files, client_ca=str(authority.certificate)))
    assert warnings == []
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    context, _ = build_context(TlsSettings(*files))
    assert context.verify_mode == ssl.CERT_NONE


def test_certificate_chain_and_key_in_one_file(authority, files, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(each).read_text() for each in (*files, authority.certificate)))
    _, warnings = build_context(TlsSettings(str(both)))
    assert warnings == []


def test_nothing_set():
    assert complaint("") == "tls.certificate: not set; listen.tls needs the path of a PEM file"


def test_missing_files(files, tmp_path):
    gone = str(tmp_path / "gone.pem")
    assert complaint(gone) == f"tls.certificate: {gone}: No such file or directory"
    assert complaint(files[0], gone) == f"tls.private_key: {gone}: No such file or directory"
    assert complaint(*files, client_ca=gone) == f"tls.client_ca: {gone}: No such file or directory"
    assert complaint(str(tmp_path)) == f"tls.certificate: {tmp_path}: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(files, tmp_path):
    secret = tmp_path / "secret.key"
    secret.write_text("x")
    secret.chmod(0)
    assert complaint(files[0], str(secret)) == f"tls.private_key: {secret}: Permission denied"


def test_files_that_are_not_pem(files, tmp_path):
    der = tmp_path / "certificate.der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(Path(files[0]).read_text()))
    assert complaint(str(der), files[1]) == f"tls.certificate: {der}: not PEM: no line BEGIN CERTIFICATE"
    assert complaint(files[0], str(der)) == f"tls.private_key: {der}: not PEM: no line BEGIN PRIVATE KEY"
    assert complaint(*files, client_ca=str(der)) == f"tls.client_ca: {der}: not PEM: no line BEGIN CERTIFICATE"
    assert complaint(files[0]).endswith("no line BEGIN PRIVATE KEY; set tls.private_key if it is in another file")
    assert complaint(files[1], files[0]).startswith(f"tls.certificate: {files[1]}: not PEM")  # swapped


def test_pem_with_a_broken_inside(files, tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert complaint(str(broken), files[1]).startswith(f"tls.certificate: {broken}: ")
    assert complaint(*files, client_ca=str(broken)).startswith(f"tls.client_ca: {broken}: ")
    broken.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert complaint(files[0], str(broken)).startswith(f"tls.private_key: {broken}: ")


def test_the_key_of_another_certificate(authority, files):
    _, other = authority.issue("other.example.com")
    assert complaint(files[0], str(other)) == (
        f"tls.private_key: {other}: the key does not belong to the certificate {files[0]}"
    )


def test_a_key_of_another_type(files, tmp_path):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "rsa.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    assert "the key does not belong to the certificate" in complaint(files[0], str(path))


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL], ids=["pkcs8", "pkcs1"]
)
def test_an_encrypted_key_is_an_error_and_no_question(form, files, tmp_path):
    key = serialization.load_pem_private_key(Path(files[1]).read_bytes(), None)
    path = tmp_path / "encrypted.key"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    )
    assert complaint(files[0], str(path)) == (
        f"tls.private_key: {path}: the key is encrypted; a daemon cannot ask for a passphrase"
    )


def test_an_expired_certificate_is_a_warning(authority):
    certificate, key = authority.issue("old.example.com", days=-1)
    _, warnings = build_context(TlsSettings(str(certificate), str(key)))
    assert warnings == [f"tls.certificate: {certificate}: clients will refuse it: certificate has expired"]
    context, _ = build_context(TlsSettings(str(certificate), str(key)))
    assert certificate_end(context, str(certificate)) == 0


def test_a_certificate_that_ends_soon_is_a_warning(authority):
    certificate, key = authority.issue("soon.example.com", days=3)
    _, (warning,) = build_context(TlsSettings(str(certificate), str(key)))
    assert warning.startswith(f"tls.certificate: {certificate}: it ends at ")
    certificate, key = authority.issue("later.example.com", days=20)
    context, warnings = build_context(TlsSettings(str(certificate), str(key)))
    assert warnings == []
    assert 19 * 86400 < certificate_end(context, str(certificate)) - time.time() < 21 * 86400


def test_a_client_ca_without_an_authority_is_a_warning(files):
    _, warnings = build_context(TlsSettings(*files, client_ca=files[0]))
    assert warnings == [f"tls.client_ca: {files[0]}: no certificate in it is of a certification authority (CA:TRUE)"]


def test_permitted_peers_need_a_client_ca(files):
    assert complaint(*files, permitted_peers=("web1",)).startswith("tls.permitted_peers: needs tls.client_ca")


@pytest.mark.parametrize(
    "peer",
    [
        "", "web*.example.com", "*", "*.*.example.com", "SHA1:zz", "SHA1:" + "AA:" * 18 + "AA", "SHA256:" + "00" * 20,
        "SHA256:", "a\nb", "x" * 300,
    ],
)  # fmt: skip
def test_bad_permitted_peers(peer, authority, files):
    message = complaint(*files, client_ca=str(authority.certificate), permitted_peers=("good.example.com", peer))
    assert message.startswith("tls.permitted_peers: ")


@pytest.mark.parametrize(
    ("peer", "name", "permitted"),
    [
        ("web1.example.com", "web1.example.com", True),
        ("Web1.Example.COM.", "web1.example.com", True),
        ("web1.example.com", "web11.example.com", False),
        ("*.example.com", "web1.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "a.web1.example.com", False),
        ("*.example.com", "webexample.com", False),
        ("*.example.com", "web.example.com.evil.org", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("2001:DB8::1", "2001:db8::1", True),
        ("Log Sender 7", "log sender 7", True),
    ],
)
def test_permitted_names(peer, name, permitted):
    assert permitted_peer(peer)([name], b"") is permitted
    assert permitted_peer(peer)(["other", name], b"") is permitted
    assert permitted_peer(peer)([], b"") is False


def test_names_of_a_certificate():
    subject = ((("countryName", "DE"),), (("commonName", "CN.example.com"),))
    assert certificate_names({"subject": subject}) == ["cn.example.com"]
    alternatives = (
        ("IP Address", "192.0.2.1"),
        ("DNS", "A.example.com"),
        ("URI", "x:y"),
        ("DNS", "b.example.com."),
        ("IP Address", "2001:DB8:0:0:0:0:0:1"),
    )
    assert certificate_names({"subject": subject, "subjectAltName": alternatives}) == [
        "a.example.com", "b.example.com", "192.0.2.1", "2001:db8::1",
    ]  # fmt: skip
    assert certificate_names({"subject": ((("commonName", "a\nb\x00\u2028" + "c" * 300),),)}) == ["a?b??" + "c" * 248]
    assert certificate_names({"subject": (), "subjectAltName": (("email", "x@y"),)}) == []
    assert certificate_names({}) == certificate_names(None) == []
