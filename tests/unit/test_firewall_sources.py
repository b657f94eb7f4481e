"""What --follow may name, and which certificate files are no good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logguardd.errors import ConfigError
from logguardd.firewall.sources import Certificates, parse_source
from tests.servers.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


def files(authority: Authority) -> Certificates:
    certificate, key = authority.issue("web1")
    return Certificates(str(authority.certificate), str(certificate), str(key))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://logs.example.com", "https://logs.example.com:9515"),
        ("https://logs.example.com:9999/", "https://logs.example.com:9999"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:9515"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_sources(authority, text, shown):
    assert str(parse_source(text, files(authority))) == shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "unix:x", "http://logs", "https://", "https://logs:x", "https://logs:99999", "https://u:p@logs",
     "https://logs/follow", "https://logs?x", "https://[::1", "ftp://logs"],
)  # fmt: skip
def test_what_is_no_source(authority, text):
    with pytest.raises(ConfigError, match=r"not a source; allowed: unix:PATH, .* or https://HOST"):
        parse_source(text, files(authority))


def test_files_that_are_no_good(authority, stranger, tmp_path):
    good = files(authority)
    other = files(stranger)
    (tmp_path / "x").write_text("x")
    for bad, what in (
        (replace(good, ca="/nowhere"), "--ca: /nowhere: No such file"),
        (replace(good, ca=str(tmp_path / "x")), "--ca: .*: no certificate or crl found"),
        (replace(good, certificate="/nowhere"), "--cert: /nowhere: No such file"),
        (replace(good, private_key="/nowhere"), "--key: /nowhere: No such file"),
        (replace(good, private_key=other.private_key), "--cert, --key: .*: key values mismatch"),
    ):
        with pytest.raises(ConfigError, match=what):
            parse_source("https://logs", bad)
