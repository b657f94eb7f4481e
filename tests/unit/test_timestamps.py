"""Stamps of every form, their years, zones and skew."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND

YEARS = 366 * 86400 * SECOND * 100
BERLIN = ZoneInfo("Europe/Berlin")


def us(text: str) -> int:
    """Return the time of an RFC 3339 stamp, in microseconds."""
    delta = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds


def read(stamp: str, received: str = "2026-11-20T12:00:00Z", zone: tzinfo = UTC, skew: int = YEARS) -> int:
    return Clock(us(received), zone, skew)[stamp]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        # RFC 3339 as RFC 5424 section 6.2.3 has it, and beyond
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.500000Z"),
        ("2026-11-20T10:00:00.000003+01:00", "2026-11-20T09:00:00.000003Z"),
        ("2026-11-20T10:00:00.123456789-07:00", "2026-11-20T17:00:00.123456Z"),
        ("2026-11-20T10:00:00,25+0100", "2026-11-20T09:00:00.250000Z"),
        ("2026-11-20T10:00:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20 10:00:00", "2026-11-20T10:00:00Z"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z"),
        ("2026-12-31T23:59:60.5Z", "2027-01-01T00:00:00.5Z"),
        # RFC 3164
        ("Nov 20 10:00:00", "2026-11-20T10:00:00Z"),
        ("Nov  2 10:00:00", "2026-11-02T10:00:00Z"),
        ("Nov 2 10:00:00", "2026-11-02T10:00:00Z"),
        ("Nov 02 10:00:00", "2026-11-02T10:00:00Z"),
        ("nov 20 10:00:00", "2026-11-20T10:00:00Z"),
        ("Nov 20 10:00:00.25", "2026-11-20T10:00:00.25Z"),
        ("Nov 20 10:00:00,123456789", "2026-11-20T10:00:00.123456Z"),
        ("Nov 20 10:00:60", "2026-11-20T10:01:00Z"),
        ("Nov 20 2024 10:00:00", "2024-11-20T10:00:00Z"),
        ("Nov 20 10:00:00 2024", "2024-11-20T10:00:00Z"),
        ("2024 Nov 20 10:00:00", "2024-11-20T10:00:00Z"),
        ("Nov 20 10:00:00 CST 2024", "2024-11-20T10:00:00Z"),
        ("Nov 20 10:00:00 +0100", "2026-11-20T09:00:00Z"),
        ("Nov 20 2026 10:00:00+05:30", "2026-11-20T04:30:00Z"),
        ("Nov 20 2026 10:00:00.25-08:00", "2026-11-20T18:00:00.25Z"),
        # Sophos UTM
        ("2026:11:20-10:00:00", "2026-11-20T10:00:00Z"),
    ],
)
def test_forms(stamp: str, expected: str) -> None:
    assert read(stamp) == us(expected)


@pytest.mark.parametrize(
    "stamp",
    [
        "", "x", "Nov", "Foo 20 10:00:00", "Nov 31 10:00:00", "Nov 20 24:00:00", "Nov 20 10:60:00", "Nov 20 10:00:61",
        "Nov 20 10:00", "Nov 20 0000 10:00:00", "Feb 29 2026 10:00:00", "2026-02-29T10:00:00Z", "2026-11-20",
        "2026-11-20T", "2026-11-20T10:00:00+25:00", "2026-13-20T10:00:00Z", "2026-11-20T10:00:61Z",
        "20261120T100000Z", "Nov 20 10:00:00+24:00", "Nov 20 10:00:00+1", "Nov 20 10:00:00+99:99", "\N{ARABIC-INDIC DIGIT TWO}026-11-20T10:00:00Z",
    ],
)  # fmt: skip
def test_what_is_not_a_time(stamp: str) -> None:
    assert read(stamp) is None


@pytest.mark.parametrize(
    ("stamp", "received", "expected"),
    [
        ("Dec 31 23:59:59", "2026-01-01T00:00:01Z", "2025-12-31T23:59:59Z"),
        ("Jan  1 00:00:01", "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"),
        ("Jun 30 00:00:00", "2026-01-01T00:00:00Z", "2026-06-30T00:00:00Z"),
        ("Jul 15 00:00:00", "2026-01-01T00:00:00Z", "2025-07-15T00:00:00Z"),
        ("Feb 29 12:00:00", "2028-02-29T12:00:00Z", "2028-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2028-03-01T00:00:00Z", "2028-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2027-12-31T00:00:00Z", "2028-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2025-02-28T00:00:00Z", "2024-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2101-01-01T00:00:00Z", "2104-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2099-01-01T00:00:00Z", "2096-02-29T12:00:00Z"),
    ],
)
def test_year_is_the_nearest(stamp: str, received: str, expected: str) -> None:
    assert read(stamp, received) == us(expected)


@pytest.mark.parametrize(
    ("stamp", "received", "expected"),
    [
        ("Jul  1 12:00:00", "2026-07-01T10:00:02Z", "2026-07-01T10:00:00Z"),
        ("Jan  1 12:00:00", "2026-01-01T11:00:02Z", "2026-01-01T11:00:00Z"),
        ("2026-07-01T12:00:00", "2026-07-01T10:00:02Z", "2026-07-01T10:00:00Z"),
        ("Jul  1 10:00:00 UTC", "2026-07-01T10:00:02Z", "2026-07-01T10:00:00Z"),
        # the hour that comes twice
        ("Oct 25 02:30:00", "2026-10-25T00:30:05Z", "2026-10-25T00:30:00Z"),
        ("Oct 25 02:30:00", "2026-10-25T01:30:05Z", "2026-10-25T01:30:00Z"),
        ("2026-10-25T02:30:00", "2026-10-25T01:30:05Z", "2026-10-25T01:30:00Z"),
        # and the one that never comes: a clock that is not set forward yet, or already
        ("Mar 29 02:30:00", "2026-03-29T01:30:05Z", "2026-03-29T01:30:00Z"),
        ("Mar 29 02:30:00", "2026-03-29T00:30:05Z", "2026-03-29T00:30:00Z"),
    ],
)
def test_zone_is_the_configured_one(stamp: str, received: str, expected: str) -> None:
    assert read(stamp, received, BERLIN) == us(expected)


@pytest.mark.parametrize(
    ("stamp", "kept"),
    [
        ("2026-11-20T12:05:00Z", True),
        ("2026-11-20T12:05:00.000001Z", False),
        ("2026-11-20T11:55:00Z", True),
        ("2026-11-20T11:54:59.999999Z", False),
        ("Nov 20 12:05:00", True),
        ("Nov 20 12:05:01", False),
        ("Mar  1 00:00:45", False),
    ],
)
def test_skewed_time_is_replaced_by_receive_time(stamp: str, kept: bool) -> None:
    received = us("2026-11-20T12:00:00Z")
    time = Clock(received, ZoneInfo("UTC"), 300 * SECOND)[stamp]
    assert (time == read(stamp)) == kept
    assert kept or time == received


def test_far_receive_times_do_not_raise() -> None:
    for received in (-(10**30), -(10**15), 0, 10**18, 10**30):
        clock = Clock(received, BERLIN, 300 * SECOND)
        for stamp in ("Nov 20 10:00:00", "Feb 29 10:00:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59"):
            assert clock[stamp] in (None, received)
