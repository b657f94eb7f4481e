"""Firewall appliances that write no header but key=value pairs after the PRI: FortiGate, Sophos, SonicWall.

FortiGate writes ``date=2026-11-20 time=10:00:00 devname="fw1" ... tz="+0100"`` (Log Message Reference; its csv format has commas between the pairs), Sophos Firewall
``device_name="fw1" timestamp="2026-11-20T10:00:00+0100"`` or ``device="SFW" date=... time=... timezone="CET"``
(Syslog Guide), SonicWall ``id=firewall time="2026-11-20 10:00:00 UTC"``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing.fields import HOSTNAME, Fields

if TYPE_CHECKING:
    from logguardd.parsing.timestamps import Clock

_PAIRS = re.compile(r'([A-Za-z_][\w.-]{0,63})=(?:"([^"]*)"|([^ ",]*))')
_STAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?) ?(Z|UTC|GMT|[+-]\d{2}:?\d{2})?", re.ASCII
).fullmatch
_OFFSET = re.compile(r"Z|[+-]\d{2}:?\d{2}", re.ASCII).fullmatch
_ZONES = {"UTC": "Z", "GMT": "Z"}
_HOSTNAME = re.compile(HOSTNAME).fullmatch

# Time and device stand near the beginning; what comes later may be an attacker's text.
_REACH = 1024


def parse(text: str, clock: Clock) -> Fields | None:
    """Read the text after the PRI where it begins with a pair; all of it stays in ``msg``."""
    if _PAIRS.match(text) is None:
        return None
    pairs: dict[str, str] = {}
    for name, quoted, bare in _PAIRS.findall(text, 0, _REACH):
        pairs.setdefault(name, quoted or bare)
    hostname = pairs.get("devname") or pairs.get("device_name")
    if hostname and not _HOSTNAME(hostname):
        hostname = None
    return Fields(_time(pairs, clock), hostname, None, None, None, text)


def _time(pairs: dict[str, str], clock: Clock) -> int | None:
    stamp = pairs.get("timestamp") or f"{pairs.get('date', '')} {pairs.get('time', '')}"
    found = _STAMP(stamp.strip())
    if found is None:
        return None
    zone = found[3] or pairs.get("tz") or pairs.get("timezone") or ""
    zone = _ZONES.get(zone, zone)
    return clock[f"{found[1]}T{found[2]}{zone if _OFFSET(zone) else ''}"]
