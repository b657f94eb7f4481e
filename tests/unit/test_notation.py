"""Durations, sizes, endpoints, time zones."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logguardd.notation import clash, duration, endpoint, printable, show_duration, show_size, shown, size, zone
from logguardd.records import SECOND


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5m", 300 * SECOND),
        ("90s", 90 * SECOND),
        ("7d", 7 * 86400 * SECOND),
        ("10ms", 10_000),
        ("3us", 3),
        ("1h30m", 5400 * SECOND),
        ("0s", 0),
    ],
)
def test_duration(text, value):
    assert duration(text) == value


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5min", "-5m", "1.5h", "5M", "5m ", "\u0665m", "5w"])
def test_not_a_duration(text):
    with pytest.raises(ValueError):
        duration(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("64KiB", 65536), ("10GiB", 10 << 30), ("512B", 512), ("1 MiB", 1 << 20), ("2GB", 2 * 10**9), ("1kB", 1000)],
)
def test_size(text, value):
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "64", "KiB", "64K", "-1B", "1.5GiB", "64kib", "1PiB"])
def test_not_a_size(text):
    with pytest.raises(ValueError):
        size(text)


@given(st.integers(0, 1 << 60))
def test_shown_reads_back(number):
    assert duration(show_duration(number)) == number
    assert size(show_size(number)) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[::]:514", ("::", 514)),
        (":514", ("::", 514)),
        ("0.0.0.0:514", ("0.0.0.0", 514)),
        ("[fe80::1%eth0]:514", ("fe80::1%eth0", 514)),
        ("localhost:0", ("localhost", 0)),
        ("log-1.example.:65535", ("log-1.example.", 65535)),
    ],
)
def test_endpoint(text, value):
    assert endpoint(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "514",
        "[::]",
        "::1:514",
        "[::]:",
        "[::]:65536",
        "[1.2.3.4]:1",
        "1.2.3.256:1",
        "1.2.3:1",
        "h:-1",
        "a b:1",
        "[x]:1",
    ],
)
def test_not_an_endpoint(text):
    with pytest.raises(ValueError):
        endpoint(text)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("[::]:514", ":514", True),
        ("[::]:514", "[::]:515", False),
        ("[::]:514", "192.0.2.1:514", True),
        ("0.0.0.0:514", "192.0.2.1:514", True),
        ("0.0.0.0:514", "[2001:db8::1]:514", False),
        ("0.0.0.0:514", "[::]:514", True),
        ("192.0.2.1:514", "192.0.2.2:514", False),
        ("192.0.2.1:0", "192.0.2.1:0", False),
        ("systemd:a", "systemd:a", True),
        ("systemd:a", "[::]:514", False),
        ("", "", False),
        ("", "[::]:514", False),
    ],
)
def test_clash(one, other, expected):
    assert clash(one, other) is clash(other, one) is expected


def test_ipv4_may_have_a_place_of_its_own_beside_ipv6():
    assert not clash("[::]:514", "0.0.0.0:514", together=True)
    assert clash("[::]:514", "127.0.0.1:514", together=True)


def test_zone(monkeypatch):
    assert zone("UTC") is UTC
    assert zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("TZ", ":America/New_York")
    assert zone("local") == ZoneInfo("America/New_York")
    monkeypatch.delenv("TZ")
    assert datetime(2026, 1, 1, tzinfo=zone("local")).utcoffset() is not None
    for name in ("Mars/Olympus", "../etc/passwd", "/etc/localtime", "", "\x00"):
        with pytest.raises(ValueError):
            zone(name)


def test_wrong_values_are_shown_safely():
    assert shown("a" * 100) == '"' + "a" * 60 + '"'
    assert shown("\x1b[31m") == r'"\x1b[31m"'
    assert shown("redis://:pw@h") == '"redis://:***@h"'
    assert shown(True) == "true"
    assert shown([1]) == "a list"
    assert shown(1.5) == "1.5"


def test_printable():
    assert printable("grüße, 日本") == "grüße, 日本"
    assert printable("a\nb\r\x1b[2J\x7f\x00") == r"a\nb\r\x1b[2J\x7f\x00"
    assert printable("\u202e\u2028\ud800\U000e0001") == r"\u202e\u2028\ud800\U000e0001"
    assert printable("back\\slash") == "back\\slash"
