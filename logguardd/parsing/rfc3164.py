"""RFC 3164 as it is really met: every part of the header may be missing, and the rest be written in several ways."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing import cisco, keyvalue
from logguardd.parsing.fields import HOSTNAME, PROCID, TAG, Fields
from logguardd.parsing.timestamps import CALENDAR, ISO, SOPHOS, ZONES

if TYPE_CHECKING:
    from logguardd.parsing.timestamps import Clock

# What some put around the stamp: the weekday, as asctime(3) does, a zone, a colon, BSD's <auth.info> (syslogd -vv).
_STAMP = re.compile(
    r" *(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
    rf"({CALENDAR}(?: (?:UTC|GMT)(?= ))?|\d{{4}}-[^ ]{{5}}T[^ ]+|{ISO}|{SOPHOS})"
    rf"(?: (?:{ZONES}|TZ[+-]\d{{1,2}})(?= ))?:?(?:[ \t]+|$)(?:<\w{{1,8}}\.\w{{1,8}}> +)?",
    re.ASCII,
).match

# A hostname needs something after it, or it is the message. An IPv6 prefix may end in colons, an address stand in
# brackets; "-" is written by relays that know none, "(none)" by devices whose name was never set.
_HOSTNAME = re.compile(
    rf"({HOSTNAME}|[0-9A-Fa-f:]{{1,39}}::|\[[0-9A-Fa-f:.]{{2,45}}\]|-|\(none\))[ \t]+(?=[^ \t])"
).match

# RFC 3164 section 4.1.3: the tag ends at the first character that is not alphanumeric, in practice a colon, a bracket
# or a space. A colon may be inside a name that has a [pid] (a container's image), and the message may follow it
# without a space unless that makes it look like an address, a time or a URL. A bare word that is written like the
# first of a sentence is not a tag. Snare's is followed by a tab.
_WITH_PROCID = re.compile(
    rf" *+([^ \t\[\]{{}}\"'=<>,;@%][^ \t\[\]{{}}\"'=<>,;]{{0,254}}+)(?<!:)\[({PROCID})?\](?::|(?= |$)) ?"
).match
_WITH_COLON = re.compile(rf" *+({TAG}):(?:(?: |$)|(?<=[A-Za-z_.)-]:)(?![:/\d]))").match
_BARE = re.compile(r"(?![A-Z][a-z]* )([A-Za-z_][\w./-]{0,254}+)[ \t](?!$)", re.ASCII).match

# The level that busybox (auth.info) and BIG-IP (notice) write before a tag.
_LEVEL = re.compile(
    r"(?:[a-z]\w{1,7}\.)?(?:emerg|alert|crit|err|error|warn|warning|notice|info|debug) +(?=[^ :\[\]]{1,255}(?:\[[^ \[\]]*\])?:)",
    re.ASCII,
).match

# What Solaris and illumos put before a message (log(4D)).
_ID = re.compile(r"\[ID (\d{1,10}) \w{1,8}\.\w{1,8}\] ", re.ASCII).match

# rsyslog's forward templates cut the tag after 32 characters: postfix/submission/smtpd[1234567 for ...[1234567]: is one.
# The pid is dropped, for there is no telling how much of it is missing.
_CUT = re.compile(r"(?=[^ ]{32}(?: |$))([A-Za-z_/(][^ \[\]{}\"'=<>,;]{0,30}+)\[\d*(?: |$)").match

# Written by syslogds on their own account, without a tag, some without a hostname.
_REPEATED = re.compile(r"(?:last )?message repeated \d+ times?").match
_FORWARDED = re.compile(r"(?:Message f|F)orwarded from ([^ ]{1,255}?):? +").match


def parse(text: str, clock: Clock) -> Fields:
    """Read the text after the PRI; what is in none of the known forms is the message (without a byte order mark)."""
    fields = _parse(text, clock)
    if fields.msg.startswith("\ufeff"):  # left by relays that read RFC 5424 and write RFC 3164
        fields = fields._replace(msg=fields.msg[1:])
    if fields.msg.startswith("[ID ") and (found := _ID(fields.msg)):
        return fields._replace(msgid=found[1], msg=fields.msg[found.end() :])
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
        fields = cisco.parse(text, clock, relayed=True)
        return fields._replace(timestamp=time) if fields else _tagged(text, time, None)
    rest = text[found.end() :]
    hostname = None if found[1] in ("-", "(none)") else found[1].strip("[]")
    if fields := cisco.parse(rest, clock, relayed=True):
        return fields._replace(timestamp=time, hostname=hostname)
    if level := _LEVEL(rest):
        rest = rest[level.end() :]
    elif (bare := _BARE(rest)) and not _REPEATED(rest):
        return Fields(time, hostname, bare[1], None, None, rest[bare.end() :])
    elif cut := _CUT(rest):
        return Fields(time, hostname, cut[1], None, None, rest[cut.end() :])
    return _tagged(rest, time, hostname)


def _tagged(text: str, time: int | None, hostname: str | None) -> Fields:
    """Read ``tag[pid]: message``, or all of it as the message."""
    if found := _WITH_PROCID(text):
        return Fields(time, hostname, found[1], found[2], None, text[found.end() :])
    if found := _WITH_COLON(text):
        return Fields(time, hostname, found[1], None, None, text[found.end() :])
    return Fields(time, hostname, None, None, None, text)
