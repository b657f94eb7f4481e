"""Cisco's way of writing syslog: IOS, IOS XR, NX-OS, AireOS, Unified CM, ASA and Firepower.

In front of the mnemonic (``%FACILITY-SEVERITY-MNEMONIC:``) may stand, each followed by a colon: the message count, the
origin (``logging origin-id``) with the sequence number (``service sequence-numbers``) before or after it, the time, with
``*`` where the clock was never set and ``.`` where it lost its NTP server, or instead the uptime; ASA puts its name
(``logging device-id``) after the time. IOS XR writes its node (``RP/0/RP0/CPU0:``) right before the time and the process
after it. See "System Message Format" in the system message guides of IOS, IOS XR and ASA.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing.fields import Fields
from logguardd.parsing.timestamps import CALENDAR, ISO, ZONES

if TYPE_CHECKING:
    from logguardd.parsing.timestamps import Clock

_COUNT = r"\d{1,10}: {1,2}"
_ADDRESS = r"\d+\.\d+\.\d+\.\d+|(?=[0-9A-Fa-f.:]*::|(?:[0-9A-Fa-f]+:){7})[0-9A-Fa-f.:]{2,45}"
_ORIGIN = rf"[A-Za-z][\w.-]{{0,254}}|{_ADDRESS}"
_NODE = r"[A-Z0-9]{1,6}(?:/[A-Z0-9]{1,8}){2,4}:"
_ZONE = rf"{ZONES}|[A-Z]{{1,5}}(?:[+-]\d{{1,2}}(?::?\d\d)?)?(?=:| +[\w.])"
_UPTIME = r"(?:\d+[ywdh]){1,3}|\d{1,3}:\d\d:\d\d"
_MNEMONIC = r"%[A-Za-z]\w{0,63}(?:-\w{1,64}){0,3}?-[0-7]-(?P<mnemonic>\w[\w-]{0,63})"
_REST = (
    rf"(?P<node>{_NODE})?"
    r"(?:\*[\w.-]{1,64}: +)?"  # AireOS: the task
    rf"(?:[*.]?(?P<time>{ISO}|{CALENDAR})(?: (?P<zone>{_ZONE}))?(?: +(?P<host>(?!: )[\w.:/-]{{1,255}}?))?(?: ?: +| +(?=%))"
    rf"|[*.]?(?:{_UPTIME}): +)?"
    r"(?(node)(?:[\w.-]{1,64}\[\d{1,10}\]: +)?)"  # IOS XR: the process
    r"(?:%\$ ?VDC-\d+ ?%\$ )?"  # NX-OS: the virtual device context
    rf"(?P<tag>{_MNEMONIC}) ?: ?"
)
_MESSAGE = re.compile(
    r":? *+"  # EMBLEM and NX-OS begin with a colon
    rf"(?:{_COUNT}){{0,2}}"  # message count, sequence number
    rf"(?:(?P<origin>{_ORIGIN})(?: ?: +(?:{_COUNT})?| +(?=%|{_NODE})))?{_REST}",
    re.ASCII,
).match
# After a relay's header a name with a colon is a program, whose text may be anybody's, unless a count is before it.
_RELAYED = re.compile(
    rf":? *+(?:(?:{_COUNT}){{1,2}}(?:(?:{_ORIGIN})(?: ?: +(?:{_COUNT})?| +(?={_NODE})))?|(?:{_ORIGIN}) : +)?{_REST}",
    re.ASCII,
).match
_UTC = ("UTC", "GMT")


def parse(text: str, clock: Clock, *, relayed: bool = False) -> Fields | None:
    """Read the text after the PRI, or with ``relayed`` after the header that a relay put before it.

    Return None for anything else. ``app_name`` is the tag as every syslog daemon shows it (``%ASA-6-302013``), ``msgid``
    the mnemonic in it. The relay's header has the time and the hostname.
    """
    if "%" not in text:
        return None
    if relayed:
        found = _RELAYED(text)
        return found and Fields(None, None, found["tag"], None, found["mnemonic"], text[found.end() :])
    found = _MESSAGE(text)
    if found is None:
        return None
    time = None
    if stamp := found["time"]:
        utc = found["zone"] in _UTC
        time = clock[f"{stamp}{'Z' if stamp[4] == '-' else ' UTC'}" if utc else stamp]
    return Fields(time, found["host"] or found["origin"], found["tag"], None, found["mnemonic"], text[found.end() :])
