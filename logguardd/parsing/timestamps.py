"""Time stamps as senders write them, to microseconds since the epoch."""

from __future__ import annotations

import re
from calendar import isleap
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as FixedZone  # noqa: N812 - "timezone" is what the configuration says
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MINUTE = 60 * SECOND
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LEAP_DAY = (2, 29)

#: RFC 3164's TIMESTAMP ("Mmm dd hh:mm:ss") as it is met: the day unpadded, a year before the month, after the day or
#: after the time (and there perhaps after a zone, as date(1) prints it), a fraction, and an offset (Huawei's).
CALENDAR: Final = (
    r"(?:\d{4} )?[A-Za-z]{3} {1,2}\d{1,2}(?: \d{4})? \d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?"
    r"(?: (?:[A-Z]{3,5} )?(?:19|20)\d{2}(?![^ :])| ?[+-]\d{2}:?\d{2}(?![^ :]))?"
)
#: RFC 3339's date-time, also with a space for the T, without colon in the offset, or without an offset.
ISO: Final = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d{1,15})?(?:Z|[+-]\d{2}:?\d{2})?"
#: The names of time zones that senders write after a stamp; all but UTC's are ambiguous, and mean the configured one.
ZONES: Final = "(?:UTC|GMT|WES?T|BST|IST|CES?T|ME[SW]?Z|MES?T|EES?T|MSK|SAST|JST|KST|HKT|SGT|A[CEKW][DS]T|NZ[DS]T|[ECMPH][DS]T|BRS?T)\\b"
#: Sophos UTM's stamp.
SOPHOS: Final = r"\d{4}:\d{2}:\d{2}-\d{2}:\d{2}:\d{2}"

_CALENDAR = re.compile(
    r"(?:(\d{4}) )?([A-Za-z]{3}) {1,2}(\d{1,2})(?: (\d{4}))? (\d{2}):(\d{2}):(\d{2})(?:[.,](\d{1,9}))?"
    r"(?:(?: [A-Z]{3,5})? (\d{4})|(?: ?([+-]\d{2}):?(\d{2})))?(?: (UTC|GMT))?",
    re.ASCII,
).fullmatch
_SOPHOS = re.compile(SOPHOS, re.ASCII).fullmatch


class Clock(dict[str, int | None]):
    """The times that stamps mean to one batch: ``clock[text]`` is in microseconds, None for what is not a time.

    Takes the forms above, the calendar ones also with " UTC". A stamp that is off from ``received_at`` by more than
    ``max_clock_skew`` microseconds gives ``received_at``; one without year is of the year, one without zone and in the
    hour that ``timezone`` has twice of the hour, that is nearest to it. Bounded by the batch that it is made for.
    """

    def __init__(self, received_at: int, timezone: tzinfo, max_clock_skew: int) -> None:
        super().__init__()
        self.received_at = received_at
        self._timezone = timezone
        self._max_clock_skew = max_clock_skew

    def __missing__(self, stamp: str) -> int | None:
        time: int | None
        try:
            if stamp[4:5] == "-":
                time = _iso(stamp, self.received_at, self._timezone)
            else:
                time = _calendar(stamp, self.received_at // _MINUTE, self._timezone)
            if abs(time - self.received_at) > self._max_clock_skew:
                time = self.received_at
        except (ValueError, OverflowError):
            time = None
        self[stamp] = time
        return time


def _iso(stamp: str, reference: int, timezone: tzinfo) -> int:
    """Read RFC 3339's form; what more fromisoformat takes after date and time does no harm."""
    if stamp[10:11] not in ("T", " "):
        raise ValueError(stamp)
    leap = stamp[16:19] == ":60"  # the first second of the next minute, as POSIX time has it
    moment = datetime.fromisoformat(f"{stamp[:16]}:59{stamp[19:]}" if leap else stamp)
    time = (moment - _EPOCH) // _MICROSECOND if moment.tzinfo else _nearest([moment], reference, timezone)
    return time + SECOND if leap else time


@lru_cache(4096)
def _calendar(stamp: str, minute: int, timezone: tzinfo) -> int:
    """Read the other forms, nearest to a minute since the epoch: many batches of a minute share their stamps."""
    reference = minute * _MINUTE + _MINUTE // 2
    if _SOPHOS(stamp):
        return _iso(f"{stamp[:10].replace(':', '-')}T{stamp[11:]}", reference, timezone)
    found = _CALENDAR(stamp)
    if found is None:
        raise ValueError(stamp)
    before, name, day, after, hour, minutes, second, fraction, last, hours_off, minutes_off, utc = found.groups()
    if hours_off:
        timezone = _offset(hours_off, minutes_off)
    elif utc:
        timezone = UTC
    month = _MONTHS.index(name.lower()) + 1
    year = before or after or last
    leap = min(int(second), 60) - min(int(second), 59)  # 61 and more stay as they are, to fail below
    moments = []
    for candidate in [int(year)] if year else _years(reference, leap_day=(month, int(day)) == _LEAP_DAY):
        with suppress(ValueError):  # not a leap year
            moments.append(datetime(candidate, month, int(day), int(hour), int(minutes), int(second) - leap))  # noqa: DTZ001 (the zone comes last)
    time = _nearest(moments, reference, timezone)
    return time + leap * SECOND + int((fraction or "").ljust(6, "0")[:6])


def _offset(hours: str, minutes: str) -> tzinfo:
    """Return the zone of ``+01`` and ``00``; raise ValueError for a day or more."""
    off = timedelta(hours=int(hours[1:]), minutes=int(minutes))
    return FixedZone(-off if hours[0] == "-" else off)


def _years(reference: int, *, leap_day: bool) -> Iterable[int]:
    """Return the years whose days may be the nearest; leap years are up to eight apart (1896, 1904)."""
    year = (_EPOCH + reference * _MICROSECOND).year
    return filter(isleap, range(year - 8, year + 9)) if leap_day else range(year - 1, year + 2)


def _nearest(moments: Iterable[datetime], reference: int, timezone: tzinfo) -> int:
    """Return the time nearest to ``reference`` at which a clock in ``timezone`` shows one of ``moments``."""

    def distance(moment: datetime) -> int:
        return abs((moment - _EPOCH) // _MICROSECOND - reference)

    nearest = min([moment.replace(tzinfo=timezone) for moment in moments], key=distance)
    again = nearest.replace(fold=1)  # where the clock is set back, an hour comes twice
    return (min(nearest, again, key=distance) - _EPOCH) // _MICROSECOND
