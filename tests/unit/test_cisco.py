"""Cisco's forms, with what may stand before the mnemonic."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from logguardd.parsing.cisco import parse
from logguardd.parsing.fields import Fields
from logguardd.parsing.rfc3164 import parse as parse_rfc3164
from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
TIME = RECEIVED + 15 * SECOND


@pytest.mark.parametrize(
    ("head", "time", "hostname"),
    [
        # IOS
        ("", None, None),
        ("45: ", None, None),
        ("45: Nov 20 10:00:15: ", TIME, None),
        ("45: *Nov 20 10:00:15.500: ", TIME + SECOND // 2, None),
        ("45: .Nov 20 10:00:15.500 UTC: ", TIME + SECOND // 2, None),
        ("45: *Nov 20 2026 10:00:15 GMT: ", TIME, None),
        ("45: 000123: *Nov 20 10:00:15: ", TIME, None),
        ("45: router1: Nov 20 10:00:15: ", TIME, "router1"),
        ("45: 192.0.2.9: Nov 20 10:00:15: ", TIME, "192.0.2.9"),
        ("45: router1: 000123: Nov 20 10:00:15.500 UTC: ", TIME + SECOND // 2, "router1"),
        ("45: router1: 000123: ", None, "router1"),
        ("29: 00:00:46: ", None, None),
        ("29: *00:00:46: ", None, None),
        ("29: 1w2d: ", None, None),
        ("*Mar  1 00:00:45: ", RECEIVED, None),  # a clock that was never set
        # NX-OS
        (": 2026 Nov 20 10:00:15 UTC: ", TIME, None),
        (": 2026 Nov 20 10:00:15 UTC: %$VDC-1%$ ", TIME, None),
        # ASA
        ("Nov 20 2026 10:00:15: ", TIME, None),
        ("Nov 20 2026 10:00:15 fw1 : ", TIME, "fw1"),
        ("Nov 20 2026 10:00:15 192.0.2.9 : ", TIME, "192.0.2.9"),
        ("Nov 20 10:00:15 fw1 : ", TIME, "fw1"),
        ("Nov 20 10:00:15 fw1: ", TIME, "fw1"),
        (":Nov 20 10:00:15 UTC: ", TIME, None),
        ("2026-11-20T10:00:15Z: ", TIME, None),
        ("2026-11-20T10:00:15Z fw1 : ", TIME, "fw1"),
        # a relay's header first
        ("Nov 20 10:00:15 router1 45: *Mar  1 00:00:45.123: ", TIME, "router1"),
        ("2026-11-20T10:00:15.000000+00:00 fw1 ", TIME, "fw1"),
        ("Nov 20 10:00:15 fw1 ", TIME, "fw1"),
    ],
)
@pytest.mark.parametrize(
    ("tag", "mnemonic"),
    [
        ("%ASA-6-302013", "302013"),
        ("%ASA-session-6-302013", "302013"),
        ("%SYS-5-CONFIG_I", "CONFIG_I"),
        ("%SEC_LOGIN-4-LOGIN_FAILED", "LOGIN_FAILED"),
        ("%LINEPROTO-SP-5-UPDOWN", "UPDOWN"),
    ],
)
def test_what_stands_before_the_mnemonic(
    head: str, time: int | None, hostname: str | None, tag: str, mnemonic: str
) -> None:
    clock = Clock(RECEIVED, UTC, 300 * SECOND)
    expected = Fields(time, hostname, tag, None, mnemonic, "text: 192.0.2.1/80")
    assert parse_rfc3164(f"{head}{tag}: text: 192.0.2.1/80", clock) == expected
    if "router1 45" not in head and not head.endswith("fw1 "):
        assert parse(f"{head}{tag}: text: 192.0.2.1/80", clock) == expected


def test_zone_by_name_is_only_utc() -> None:
    clock = Clock(RECEIVED, timezone(timedelta(hours=1)), 300 * SECOND)
    for head in ("Nov 20 11:00:15", "Nov 20 11:00:15 CET", "Nov 20 10:00:15 UTC"):
        fields = parse(f"45: {head}: %SYS-5-CONFIG_I: text", clock)
        assert fields is not None
        assert fields.timestamp == TIME


@pytest.mark.parametrize(
    "text",
    [
        "", "%", "100 % done", "%ASA", "%ASA-6-302013", "%ASA-8-302013: text", "web1 sshd[1]: %ASA-6-302013: text",
        "sshd[1]: text %ASA-6-302013: text", "%% It's time to make the do-nuts.",
    ],
)  # fmt: skip
def test_what_is_not_cisco(text: str) -> None:
    assert parse(text, Clock(RECEIVED, UTC, 300 * SECOND)) is None
