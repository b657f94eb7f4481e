"""Cisco's way of writing syslog: IOS, NX-OS, ASA and Firepower.

In front of the mnemonic (``%FACILITY-SEVERITY-MNEMONIC:``) may stand, each followed by a colon: the message count, the
origin (``logging origin-id``) with the sequence number (``service sequence-numbers``) before or after it, the time, with
``*`` where the clock was never set and ``.`` where it lost its NTP server, or instead the uptime; ASA puts its name
(``logging device-id``) after the time. See "System Message Format" in the IOS and ASA system message guides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing.fields import Fields
from logguardd.parsing.timestamps import CALENDAR, ISO

if TYPE_CHECKING:
    from logguardd.parsing.timestamps import Clock

_ORIGIN = r"[A-Za-z][\w.-]{0,254}|\d+\.\d+\.\d+\.\d+"
_UPTIME = r"(?:\d+[ywdh]){1,3}|\d{1,3}:\d\d:\d\d"
_MNEMONIC = r"%[A-Za-z]\w{0,63}(?:-\w{1,64}){0,3}?-[0-7]-(?P<mnemonic>\w{1,64})"
_MESSAGE = re.compile(
    r":? *+"  # EMBLEM and NX-OS begin with a colon
    r"(?:\d{1,10}: {1,2}){0,2}"  # message count, sequence number
    rf"(?:(?P<origin>{_ORIGIN}): +(?:\d{{1,10}}: {{1,2}})?)?"
    rf"(?:[*.]?(?P<time>{ISO}|{CALENDAR})(?: (?P<zone>[A-Z]{{1,5}})(?=:| ))?(?: +(?P<host>[\w.:-]{{1,255}}?))? ?: +"
    rf"|[*.]?(?:{_UPTIME}): +)?"
    r"(?:%\$VDC-\d+%\$ )?"  # NX-OS: the virtual device context
    rf"(?P<tag>{_MNEMONIC}) ?: ?",
    re.ASCII,
).match
_UTC = ("UTC", "GMT")


def parse(text: str, clock: Clock) -> Fields | None:
    """Read the text after the PRI, or after the header that a relay put before it; return None for anything else.

    ``app_name`` is the tag as every syslog daemon shows it (``%ASA-6-302013``), ``msgid`` the mnemonic in it.
    """
    if "%" not in text:
        return None
    found = _MESSAGE(text)
    if found is None:
        return None
    time = None
    if stamp := found["time"]:
        utc = found["zone"] in _UTC
        time = clock[f"{stamp}{'Z' if stamp[4] == '-' else ' UTC'}" if utc else stamp]
    return Fields(time, found["host"] or found["origin"], found["tag"], None, found["mnemonic"], text[found.end() :])
