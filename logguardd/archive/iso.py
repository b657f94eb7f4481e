"""Times as SQLite keeps them: text in UTC, RFC 3339 with microseconds, which sorts as it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


#: Seconds of the years 1000 to 9999: what four digits hold.
_YEARS = range(-30_610_224_000, 253_402_300_800)


def format_time(moment: int) -> str:
    """Return microseconds since the epoch as text, such as 2026-01-31T12:00:00.123456Z; ValueError past year 9999."""
    return next(format_times([moment]))


def format_times(moments: Iterable[int]) -> Iterator[str]:
    """Yield ``format_time`` of each; quick where many lie within the same second."""
    seconds: dict[int, str] = {}
    for moment in moments:
        second, fraction = divmod(moment, SECOND)
        text = seconds.get(second)
        if text is None:
            if second not in _YEARS:
                raise ValueError(f"time out of range: {moment} µs since 1970")
            text = seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        yield f"{text}.{fraction:06d}Z"


def parse_time(text: str) -> int:
    """Return text of ``format_time`` as microseconds since the epoch; other RFC 3339 text will do. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
