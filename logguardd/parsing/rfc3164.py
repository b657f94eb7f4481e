"""RFC 3164 as it is really met: every part of the header may be missing, and the rest be written in several ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing import cisco, keyvalue
from logguardd.parsing.fields import HOSTNAME, PROCID, TAG, Fields
from logguardd.parsing.timestamps import CALENDAR, ISO, SOPHOS

if TYPE_CHECKING:
    from logguardd.parsing.timestamps import Clock

_STAMP = re.compile(
    rf" *({CALENDAR}(?: (?:UTC|GMT)(?= ))?|\d{{4}}-[^ ]{{5}}T[^ ]+|{ISO}|{SOPHOS})(?: +|$)", re.ASCII
).match

# A hostname needs something after it, or it is the message. An IPv6 prefix may end in colons, an address stand in
# brackets; "-" is written by relays that know none, "(none)" by devices whose name was never set.
_HOSTNAME = re.compile(rf"({HOSTNAME}|[0-9A-Fa-f:]{{1,39}}::|\[[0-9A-Fa-f:.]{{2,45}}\]|-|\(none\)) +(?=[^ ])").match

# RFC 3164 section 4.1.3: the tag ends at the first character that is not alphanumeric, in practice a colon, a bracket
# or a space. A colon may be inside a name that has a [pid] (a container's image), and the message may follow it
# without a space unless that makes it look like an address, a time or a URL. A bare word that is written like the
# first of a sentence is not a tag.
_WITH_PROCID = re.compile(
    rf"([^ \[\]{{}}\"'=<>,;@%][^ \[\]{{}}\"'=<>,;]{{0,254}}+)\[({PROCID})?\](?::|(?= |$)) ?"
).match
_WITH_COLON = re.compile(rf"({TAG}):(?:(?: |$)|(?<=[A-Za-z_.)-]:)(?![:/\d]))").match
_BARE = re.compile(r"(?![A-Z][a-z]* )([A-Za-z_][\w./-]{0,254}+) (?!$)", re.ASCII).match

# rsyslog's forward templates cut the tag after 32 characters: postfix/submission/smtpd[1234567 for ...[1234567]: is one.
# The pid is dropped, for there is no telling how much of it is missing.
_CUT = re.compile(r"(?=[^ ]{32}(?: |$))([A-Za-z_/(][^ \[\]{}\"'=<>,;]{0,30}+)\[\d*(?: |$)").match

# Written by syslogds on their own account, without a tag, some without a hostname.
_REPEATED = re.compile(r"(?:last )?message repeated \d+ times?").match
_FORWARDED = re.compile(r"Message forwarded from ([^ ]{1,255}?):? +").match


def parse(text: str, clock: Clock) -> Fields:
    """Read the text after the PRI; what is in none of the known forms is the message (without a byte order mark)."""
    fields = _parse(text, clock)
    if fields.msg.startswith("\ufeff"):  # left by relays that read RFC 5424 and write RFC 3164
        return fields._replace(msg=fields.msg[1:])
    return fields


def _parse(text: str, clock: Clock) -> Fields:
    if fields := cisco.parse(text, clock):
        return fields
    stamp = _STAMP(text)
    if stamp is None:
        return keyvalue.parse(text, clock) or _tagged(text, None, None)
    time = clock[stamp[1]]
    if time is None:
        return Fields(None, None, None, None, None, text, parse_error="invalid timestamp")
    return _after_stamp(text[stamp.end() :], time, clock)


def _after_stamp(text: str, time: int, clock: Clock) -> Fields:
    if _REPEATED(text):
        return Fields(time, None, None, None, None, text)
    found = _FORWARDED(text) or _HOSTNAME(text)
    if found is None:
        return _tagged(text, time, None)
    rest = text[found.end() :]
    hostname = None if found[1] in ("-", "(none)") else found[1].strip("[]")
    if fields := cisco.parse(rest, clock):
        return fields._replace(timestamp=time, hostname=hostname)
    if (bare := _BARE(rest)) and not _REPEATED(rest):
        return Fields(time, hostname, bare[1], None, None, rest[bare.end() :])
    if cut := _CUT(rest):
        return Fields(time, hostname, cut[1], None, None, rest[cut.end() :])
    return _tagged(rest, time, hostname)


def _tagged(text: str, time: int | None, hostname: str | None) -> Fields:
    """Read ``tag[pid]: message``, or all of it as the message."""
    if found := _WITH_PROCID(text):
        return Fields(time, hostname, found[1], found[2], None, text[found.end() :])
    if found := _WITH_COLON(text):
        return Fields(time, hostname, found[1], None, None, text[found.end() :])
    return Fields(time, hostname, None, None, None, text)
