"""Appliances that send key=value pairs without header."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from logguardd.parsing.fields import Fields
from logguardd.parsing.keyvalue import parse
from logguardd.parsing.timestamps import Clock
from logguardd.records import SECOND

RECEIVED = 1_795_168_800 * SECOND  # 2026-11-20T10:00:00Z
TIME = RECEIVED + 15 * SECOND
CET = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "time", "hostname"),
    [
        # FortiGate
        (
            'date=2026-11-20 time=02:00:15 devname="fw1" devid="FGT60E" eventtime=1795168815 tz="-0800" msg="login failed"',
            TIME, "fw1",
        ),
        ("date=2026-11-20 time=11:00:15 devname=FGT-1 devid=FGT60E logid=0100032002 type=event", TIME, "FGT-1"),
        ('date=2026-11-20,time=11:00:15,devname="FGT-1",devid="FGT60E",type="event"', TIME, "FGT-1"),
        # Sophos
        ('device="SFW" date=2026-11-20 time=11:00:15 timezone="CET" device_name="XG230" log_id=0101', TIME, "XG230"),
        ('device_name="SFW" timestamp="2026-11-20T11:00:15+0100" device_model="XGS" log_id="0101"', TIME, "SFW"),
        # SonicWall
        ('id=firewall sn=0017C5 time="2026-11-20 10:00:15 UTC" fw=192.0.2.9 pri=6 msg="text"', TIME, None),
        # without the fields, or with nonsense in them
        ("action=block src=192.0.2.1", None, None),
        ("date=tomorrow time=noon devname=fw1", None, "fw1"),
        ("date=2026-02-31 time=10:00:00 devname=fw1", None, "fw1"),
        ('time=10:00:15 devname="not a name"', None, None),
        # what is quoted is not a field
        ('msg="devname=forged date=2026-11-20 time=10:00:15" devname=fw1', None, "fw1"),
        # the first counts
        ("devname=fw1 devname=forged", None, "fw1"),
        # far behind, where an attacker's text may stand
        (f"action=block url={'x' * 2000} devname=forged", None, None),
    ],
)  # fmt: skip
def test_time_and_device(text: str, time: int | None, hostname: str | None) -> None:
    assert parse(text, Clock(RECEIVED, CET, 300 * SECOND)) == Fields(time, hostname, None, None, None, text)


@pytest.mark.parametrize("text", ["", "=", "text", "Use a=b", "a b=c", "1=2", '"a"=b', "a = b"])
def test_what_is_not_pairs(text: str) -> None:
    assert parse(text, Clock(RECEIVED, UTC, 300 * SECOND)) is None
