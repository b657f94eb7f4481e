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
        ("45: *Nov 20 10:00:15.500 CEST: ", TIME + SECOND // 2, None),
        ("45: *Nov 20 10:00:15.500 UTC+1: ", TIME + SECOND // 2, None),
        ("45: 2001:db8::9: *Nov 20 10:00:15: ", TIME, "2001:db8::9"),
        ("45: 1d02h: ", None, None),
        # IOS XR
        ("3164: RP/0/RSP0/CPU0:Nov 20 10:00:15.500 : config[65741]: ", TIME + SECOND // 2, None),
        ("3164: RP/0/RP0/CPU0:2026 Nov 20 10:00:15.500 UTC: exec[65741]: ", TIME + SECOND // 2, None),
        ("3164: LC/0/0/CPU0:Nov 20 10:00:15 CET: ifmgr[146]: ", TIME, None),
        ("3164: 0/RP0/ADMIN0:Nov 20 10:00:15 UTC: confd[146]: ", TIME, None),
        ("3164: xr1 RP/0/RP0/CPU0:Nov 20 10:00:15 UTC: SSHD_[65741]: ", TIME, "xr1"),
        ("RP/0/RSP0/CPU0:Nov 20 10:00:15 : config[65741]: ", TIME, None),
        # AireOS, Unified CM
        ("wlc1: *Dot1x_NW_MsgTask_4: Nov 20 10:00:15.500: ", TIME + SECOND // 2, "wlc1"),
        ("45: cucm1.example: Nov 20 2026 10:00:15.500 UTC :  ", TIME + SECOND // 2, "cucm1.example"),
        # NX-OS
        (": 2026 Nov 20 10:00:15 UTC: ", TIME, None),
        (": 2026 Nov 20 10:00:15 UTC: %$VDC-1%$ ", TIME, None),
        (": 2026 Nov 20 10:00:15 CET: %$ VDC-1 %$ ", TIME, None),
        (": sw1: 2026 Nov 20 10:00:15 UTC: ", TIME, "sw1"),
        (": 2026 Nov 20 10:00:15 sw1 ", TIME, "sw1"),
        ("2026 Nov 20 10:00:15 sw1 %$ VDC-1 %$ ", TIME, "sw1"),
        # ASA
        ("fw1 : ", None, "fw1"),
        ("Nov 20 2026 10:00:15 ASA : ", TIME, "ASA"),
        ("Nov 20 2026 10:00:15 CET fw1 : ", TIME, "fw1"),
        ("Nov 20 2026 10:00:15 fw1/context1 : ", TIME, "fw1/context1"),
        ("2026-11-20T10:00:15Z fw1  ", TIME, "fw1"),
        ("2026-11-20T10:00:15Z  ", TIME, None),
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
        ("Nov 20 10:00:15 fw1 Nov 20 2026 10:00:14: ", TIME, "fw1"),
        ("Nov 20 10:00:15 router1 45: origin: 000123: *Nov 20 10:00:14.123 CET: ", TIME, "router1"),
        ("Nov 20 10:00:15 router1 3164: RP/0/RSP0/CPU0:Nov 20 10:00:14.500 : config[65741]: ", TIME, "router1"),
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
        ("%UC_RTMT-2-RTMT-ERROR-ALERT", "RTMT-ERROR-ALERT"),
    ],
)
def test_what_stands_before_the_mnemonic(
    head: str, time: int | None, hostname: str | None, tag: str, mnemonic: str
) -> None:
    clock = Clock(RECEIVED, UTC, 300 * SECOND)
    expected = Fields(time, hostname, tag, None, mnemonic, "text: 192.0.2.1/80")
    assert parse_rfc3164(f"{head}{tag}: text: 192.0.2.1/80", clock) == expected
    if not head.startswith(("Nov 20 10:00:15 router1 ", "Nov 20 10:00:15 fw1 Nov ")):
        assert parse(f"{head}{tag}: text: 192.0.2.1/80", clock) == expected


def test_zone_by_name_is_only_utc() -> None:
    clock = Clock(RECEIVED, timezone(timedelta(hours=1)), 300 * SECOND)
    for head in ("Nov 20 11:00:15", "Nov 20 11:00:15 CET", "Nov 20 10:00:15 UTC"):
        fields = parse(f"45: {head}: %SYS-5-CONFIG_I: text", clock)
        assert fields is not None
        assert fields.timestamp == TIME


def test_space_before_the_colon() -> None:
    fields = parse("45: %MGBL-CONFIG-6-DB_COMMIT : text", Clock(RECEIVED, UTC, 300 * SECOND))
    assert fields == Fields(None, None, "%MGBL-CONFIG-6-DB_COMMIT", None, "DB_COMMIT", "text")


@pytest.mark.parametrize(
    "head", ["web1 app: ", "web1 app: 45: ", "web1 app ", "web1 app[12]: ", "web1 app: *Nov 20 10:00:15: "]
)
def test_a_program_behind_a_relay_writes_no_mnemonic(head: str) -> None:
    """Its text may be an attacker's."""
    fields = parse_rfc3164(f"Nov 20 10:00:15 {head}%ASA-6-302013: text", Clock(RECEIVED, UTC, 300 * SECOND))
    assert (fields.hostname, fields.app_name, fields.msgid) == ("web1", "app", None)


@pytest.mark.parametrize(
    "text",
    [
        "", "%", "100 % done", "%ASA", "%ASA-6-302013", "%ASA-8-302013: text", "web1 sshd[1]: %ASA-6-302013: text",
        "sshd[1]: text %ASA-6-302013: text", "%% It's time to make the do-nuts.",
    ],
)  # fmt: skip
def test_what_is_not_cisco(text: str) -> None:
    assert parse(text, Clock(RECEIVED, UTC, 300 * SECOND)) is None
