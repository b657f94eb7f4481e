"""The archive read back as the batches that once came: what was received in some time, in order."""

from __future__ import annotations

import re
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from logguardd.records import SECOND, Batch, Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from logguardd.archive import Archive
    from logguardd.archive.rows import Received

#: Messages asked for at a time, about.
MOST = 10_000
# What came in one microsecond was one batch, which the intake bounds.
_EVERY = 1 << 31
#: Microseconds asked about at once: at first, and at most.
_FIRST, _LONGEST = 60 * SECOND, 3_600 * SECOND
#: Messages in a batch at most.
_TOGETHER = 1_000

_ORIGIN = re.compile(r"(?P<transport>[a-z]+)://\[?(?P<peer>[^\]\s]*)\]?(?: \((?P<identity>.*)\))?", re.DOTALL)


async def batches(archive: Archive, first: int, last: int) -> AsyncIterator[Batch]:
    """Yield what was received from ``first`` on and before ``last`` (microseconds), numbered from 1.

    The frames are the text that the archive has: invalid UTF-8 in them stays escaped. Raises errors.UnavailableError.
    """
    position = 1
    span = _FIRST
    while first < last:
        until = min(first + span, last)
        # An index leads to a time quickly, but nothing leads to the n-th message after it: so ask about short times.
        found = await archive.received(first, until, MOST + 1)
        if len(found) > MOST:
            if until - first > 1:
                span = max((until - first) // 2, 1)
                continue
            found = await archive.received(first, until, _EVERY)
        for batch in _batches(found, position):
            yield batch
            position += batch.count
        first = until
        if len(found) < MOST // 4:
            span = min(2 * span, _LONGEST)


def _batches(found: list[Received], position: int) -> list[Batch]:
    made = []
    for (received_at, origin), together in groupby(found, itemgetter(0, 1)):
        frames = [one.raw.encode(errors="backslashreplace") for one in together]
        for start in range(0, len(frames), _TOGETHER):
            part = frames[start : start + _TOGETHER]
            made.append(Batch(position, received_at, origin_of(origin), b"\n".join(part), len(part)))
            position += len(part)
    return made


def origin_of(text: str) -> Origin:
    """Return the origin that ``str`` made this text of."""
    found = _ORIGIN.fullmatch(text)
    return Origin(text, "") if found is None else Origin(found["peer"], found["transport"], found["identity"] or "")
