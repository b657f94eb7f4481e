"""Frames to records: RFC 5424 and RFC 3164 in all their forms, mixed, one record a frame.

One regular expression reads the usual forms of both; whatever it leaves goes the slow way through rfc5424 and rfc3164,
which would give the same for the usual forms.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from logguardd.parsing import rfc3164, rfc5424
from logguardd.parsing.fields import DEFAULT_LEVEL, FIELD, HOSTNAME, LEVELS, PROCID, TAG, Fields
from logguardd.parsing.rfc5424 import BEFORE_MSG, BROKEN, SD_ELEMENTS
from logguardd.parsing.timestamps import Clock
from logguardd.records import Record

if TYPE_CHECKING:
    from datetime import tzinfo

    from logguardd.records import Batch

_USUAL = re.compile(
    r"<(\d{1,3})>(?:"
    # 1 2026-11-20T10:00:00.123456+01:00 web1 sshd 1234 - - Failed password
    rf"1 ([^ ]{{1,64}}+) ({FIELD}) ({FIELD}) ({FIELD}) ({FIELD}) (-|{SD_ELEMENTS}){BEFORE_MSG}"
    # Nov 20 10:00:00 web1 sshd[1234]: Failed password, or with RFC 3339's stamp, or without hostname; but what stands
    # in the hostname's place may belong to the time, a message that begins with % may be Cisco's, with [ID Solaris'
    rf"|(\d[^ ]*+|.{{15}}) (?:(?!(?:[A-Z]{{3,4}}|(?:19|20)\d\d) )({HOSTNAME}) )?({TAG})(?:\[({PROCID})\])?:(?: \ufeff?+(?!%|\[ID )|$)"
    r")(.*)",
    re.ASCII,
).match


class _StructuredData(dict[str, str | None]):
    """What structured_data gives, remembered for one batch."""

    def __missing__(self, text: str) -> str | None:
        self[text] = data = rfc5424.structured_data(text)
        return data


def parse(batch: Batch, *, timezone: tzinfo, max_clock_skew: int) -> list[Record]:
    r"""Return one record for each frame of the batch, in order, whatever the frames hold.

    ``timezone`` (hashable) is for stamps that carry none, ``max_clock_skew`` in microseconds: a stamp that is off by
    more from the receive time is replaced by it. Invalid UTF-8 becomes ``\xNN``. A message without PRI is user.notice
    (RFC 3164 section 4.3.3); so is one whose PRI is malformed, with the whole text as ``msg``. Where RFC 3164 has no
    hostname, the peer's address stands for it.
    """
    if not batch.count:
        return []
    clock = Clock(batch.received_at, timezone, max_clock_skew)
    data = _StructuredData()
    peer = batch.origin.peer
    new, usual, levels = tuple.__new__, _USUAL, LEVELS
    records: list[Record] = []
    append = records.append
    # Framing has escaped every NUL; should one come by another way, PostgreSQL must not meet it.
    for line in batch.frames.decode("utf-8", "backslashreplace").replace("\0", "#000").split("\n"):
        if found := usual(line):
            pri, stamp, host, app, procid, msgid, sd, old_stamp, old_host, tag, old_procid, msg = found.groups()
            level = levels.get(pri)
            if stamp is None:
                time = clock[old_stamp]
                if level and time is not None:
                    append(new(Record, (*level, time, old_host or peer, tag, old_procid, None, None, msg, None, line)))
                    continue
            else:
                time = clock.received_at if stamp == "-" else clock[stamp]
                json = None if sd == "-" else data[sd]
                if level and time is not None and json != BROKEN:
                    host = None if host == "-" else host
                    app = None if app == "-" else app
                    procid = None if procid == "-" else procid
                    msgid = None if msgid == "-" else msgid
                    append(new(Record, (*level, time, host, app, procid, msgid, json, msg, None, line)))
                    continue
        append(_unusual(line, clock, peer))
    return records


_PRI = re.compile(r"<(\d{1,3})>", re.ASCII).match


def _unusual(line: str, clock: Clock, peer: str) -> Record:
    """Read one message the slow way, in any form."""
    level, text = DEFAULT_LEVEL, line.removeprefix("\ufeff")  # a file's, sent line by line
    if text.startswith("<"):
        pri = _PRI(text)
        if pri is None or pri[1] not in LEVELS:
            return _record(level, _not_understood(line, peer, "invalid PRI"), clock, line)
        level, text = LEVELS[pri[1]], text[pri.end() :]
    fields = rfc5424.parse(text, clock)
    if fields is None and rfc5424.intended(text):
        fields = _not_understood(text, peer, "invalid RFC 5424 header")
    if fields is None:
        fields = rfc3164.parse(text, clock)
        if fields.hostname is None:
            fields = fields._replace(hostname=peer)
    return _record(level, fields, clock, line)


def _not_understood(text: str, peer: str, error: str) -> Fields:
    return Fields(None, peer, None, None, None, text, parse_error=error)


def _record(level: tuple[int, int], fields: Fields, clock: Clock, line: str) -> Record:
    time, hostname, app_name, procid, msgid, msg, data, error = fields
    if time is None:
        time = clock.received_at
    return Record(*level, time, hostname, app_name, procid, msgid, data, msg, error, line)
