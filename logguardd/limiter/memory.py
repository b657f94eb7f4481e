"""Hits counted in this process: the limiter without Redis, and the one that goes on while Redis is away."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import OrderedDict
from typing import TYPE_CHECKING

from logguardd.limiter import GRACE
from logguardd.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.metrics import Metrics
    from logguardd.records import Tally

_LOG = logging.getLogger(__name__)

_Mark = tuple[int, str]
_ONE = Verdict(-1, 1)
#: Keys dropped in one call at least, and for every tally of the call: expiry costs no call more than its counting.
_EXPIRE_LEAST, _EXPIRE_EACH = 100, 4


class MemoryLimiter:
    """Implements Limiter. Time is the newest mark's: what is older than its window before that goes, call by call.

    Holds at most ``max_members`` marks; beyond that the keys that were counted the longest ago go first, which is
    counted in ``evicted`` and, like the calls, in ``metrics``.
    """

    name = "memory"

    def __init__(self, max_members: int = 1_000_000, metrics: Metrics | None = None) -> None:
        self._max_members = max_members
        # One least-recently-counted order for each window: in each, what stands first expires first.
        self._groups: dict[int, OrderedDict[str, list[_Mark]]] = {}
        self._members = 0
        self._calls = metrics.limiter_calls.labels(self.name) if metrics else None
        self._evictions = metrics.limiter_evicted if metrics else None
        self.evicted = 0

    @property
    def members(self) -> int:
        """How many marks are held."""
        return self._members

    async def count(self, tallies: Sequence[Tally]) -> list[Verdict]:
        """Count the marks of every tally and return a verdict for each, in order; never waits."""
        if self._calls is not None and tallies:
            self._calls.inc()
        groups = self._groups
        verdicts = []
        now = 0
        for tally in tallies:
            key, window, threshold, marks = tally
            if not marks:
                verdicts.append(Verdict(-1, 0))
                continue
            now = max(now, marks[-1][0])
            group = groups.get(window)
            if group is None:
                group = groups[window] = OrderedDict()
            kept = group.get(key)
            if kept is None:
                if len(marks) == 1:
                    group[key] = list(marks)
                    self._members += 1
                    verdicts.append(_ONE if threshold else Verdict(0, 1))
                    continue
                kept = group[key] = []
            else:
                group.move_to_end(key)
                if kept[-1][0] - marks[-1][0] > window + GRACE:
                    # From the future: the clock has been set back.
                    self._members -= len(kept)
                    kept.clear()
            verdicts.append(self._add(kept, tally))
        if now:
            self._expire(now, _EXPIRE_LEAST + _EXPIRE_EACH * len(tallies))
            if self._members > self._max_members:
                self._evict()
        return verdicts

    def _add(self, kept: list[_Mark], tally: Tally) -> Verdict:
        """Merge the tally's marks into ``kept`` (sorted), judge, and trim to the newest threshold + 1."""
        _, window, threshold, marks = tally
        before = len(kept)
        if len(marks) == 1:
            mark = marks[0]
            if not kept or mark > kept[-1]:
                kept.append(mark)
            else:
                at = bisect_left(kept, mark)
                if kept[at] != mark:
                    kept.insert(at, mark)
        else:
            kept[:] = sorted({*kept, *marks})
        last = marks[-1][0]
        size = len(kept)
        hits = size if kept[0][0] > last - window else size - bisect_left(kept, (last - window + 1,))
        exceeded_at = _exceeded(kept, window, threshold, marks) if size > threshold else -1
        if size > threshold + 1:
            del kept[: size - threshold - 1]
        self._members += len(kept) - before
        return Verdict(exceeded_at, min(hits, threshold + 1))

    def _expire(self, now: int, most: int) -> None:
        for window, group in self._groups.items():
            limit = window + GRACE
            while group and most > 0:
                key = next(iter(group))
                if abs(now - group[key][-1][0]) < limit:
                    break
                self._members -= len(group.pop(key))
                most -= 1

    def _evict(self) -> None:
        if not self.evicted:
            _LOG.warning("more than %d hits to keep in memory: the oldest are forgotten early", self._max_members)
        before = self._members
        while self._members > self._max_members:
            oldest = min(
                (group for group in self._groups.values() if group), key=lambda group: next(iter(group.values()))[-1][0]
            )
            self._members -= len(oldest.popitem(last=False)[1])
        self.evicted += before - self._members
        if self._evictions is not None:
            self._evictions.inc(before - self._members)

    async def hits(self, tallies: Sequence[Tally], now: int) -> list[int]:
        """Return how many hits each key has in the window that ends at ``now``; count nothing."""
        found = []
        for key, window, _, _ in tallies:
            group = self._groups.get(window)
            kept = group.get(key, ()) if group is not None else ()
            found.append(sum(time > now - window for time, _ in kept))
        return found

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop what is counted under the keys."""
        for group in self._groups.values():
            for key in keys:
                self._members -= len(group.pop(key, ()))

    async def close(self) -> None:
        """Nothing to close."""


def _exceeded(kept: list[_Mark], window: int, threshold: int, marks: Sequence[_Mark]) -> int:
    """Return the index of the first of ``marks`` that exceeds, -1 for none; ``kept`` is sorted and holds them all."""
    previous = -1
    for index, (time, _) in enumerate(marks):
        if time == previous:
            continue
        previous = time
        # More than threshold lie in the window when the one that many places before its end does.
        end = bisect_left(kept, (time + 1,))
        if end > threshold and kept[end - threshold - 1][0] > time - window:
            return index
    # Windows that end at newer marks, counted before these came late.
    for end in range(max(threshold, bisect_left(kept, marks[0])), len(kept)):
        time = kept[end][0]
        if kept[end - threshold][0] > time - window:
            late = bisect_left(marks, (time - window + 1,))
            if late < len(marks) and marks[late][0] <= time:
                return late
    return -1
