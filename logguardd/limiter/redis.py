"""Hits counted in Redis, for all daemons that share it."""

from __future__ import annotations

import json
from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING, Any

from logguardd.errors import UnavailableError
from logguardd.limiter import GRACE
from logguardd.limiter.connection import Script, Server
from logguardd.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from logguardd.metrics import Metrics
    from logguardd.records import Tally

#: Tallies and marks of one call: what keeps Redis busy for about a millisecond.
_TALLIES, _MARKS = 250, 1_000

_NONE = Verdict(-1, 0)


class RedisLimiter:
    """Implements Limiter on one sorted set a key, one script call for some 500 tallies."""

    name = "redis"

    def __init__(self, url: str, metrics: Metrics | None = None) -> None:
        """``url``: redis://, rediss:// or unix:// (see connection.Server); raise errors.ConfigError for a wrong one."""
        self._server = Server(url)
        self._script = Script(self._server, "sliding_window.lua")
        self._calls = metrics.limiter_calls.labels(self.name) if metrics else None

    async def count(self, tallies: Sequence[Tally]) -> list[Verdict]:
        """Count the marks of every tally and return a verdict for each, in order.

        Raises errors.UnavailableError within about a second when Redis is away, hangs, is full, or is a read-only
        replica; then some of the tallies may have been counted, which does no harm when they are counted again.
        """
        if self._calls is not None and tallies:
            self._calls.inc()
        verdicts = [_NONE] * len(tallies)
        for call in _calls(tallies):
            numbers = await self._run(call)
            for index, exceeded_at, hits in zip(call.indexes(), numbers[::2], numbers[1::2], strict=True):
                before = verdicts[index].exceeded_at
                if before < 0 <= exceeded_at:
                    before = call.original(index, exceeded_at, tallies[index].marks)
                verdicts[index] = Verdict(before, hits)
        return verdicts

    async def _run(self, call: _Call) -> list[int]:
        answer = await self._script.run((), call.text(), GRACE)
        numbers = [int(number) for number in answer.split()]
        if len(numbers) != 2 * call.size:
            raise UnavailableError(f"Redis at {self._server.name}: its answer is not our script's")
        return numbers

    async def hits(self, tallies: Sequence[Tally], now: int) -> list[int]:
        """Return how many hits each key has in the window that ends at ``now``; raise errors.UnavailableError."""
        return [
            int(await self._server.reach(self._server.execute("ZCOUNT", key, now - window + 1, "+inf")))
            for key, window, _, _ in tallies
        ]

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop what is counted under the keys; raise errors.UnavailableError."""
        for start in range(0, len(keys), _TALLIES):
            await self._server.reach(self._server.execute("DEL", *keys[start : start + _TALLIES]))

    async def close(self) -> None:
        """Close connections."""
        await self._server.drop()


class _Call:
    """What one script call counts: tallies of one mark, by what they share; and others, or parts of them."""

    __slots__ = ("keys", "others", "room", "singles", "size")

    def __init__(self) -> None:
        # (window, threshold, time): indexes of tallies, and flat: key, member, key, member...
        self.singles: dict[tuple[int, int, int], tuple[list[int], list[str]]] = {}
        # Index of the tally: key, window, threshold, and flat: time, member, time, member...
        self.others: dict[int, tuple[str, int, int, list[Any]]] = {}
        self.keys: set[str] = set()
        self.size = 0
        self.room = _MARKS

    def add(self, index: int, tally: Tally, marks: Sequence[tuple[int, str]]) -> None:
        """Take these marks of the tally."""
        key, window, threshold, every = tally
        if len(every) == 1:
            time, member = marks[0]
            group = self.singles.get((window, threshold, time))
            if group is None:
                group = self.singles[window, threshold, time] = ([], [])
            group[0].append(index)
            group[1].append(key)
            group[1].append(member)
        else:
            self.others[index] = (key, window, threshold, list(chain.from_iterable(marks)))
        self.keys.add(key)
        self.size += 1
        self.room -= len(marks)

    def text(self) -> str:
        """Return the script's first argument."""
        singles = [(*group, entries) for group, (_, entries) in self.singles.items()]
        return json.dumps((singles, list(self.others.values())), separators=(",", ":"))

    def indexes(self) -> Iterator[int]:
        """Give the indexes of the tallies in the order of the script's answers."""
        return chain(*(indexes for indexes, _ in self.singles.values()), self.others)

    def original(self, index: int, sent: int, marks: Sequence[tuple[int, str]]) -> int:
        """Return where among all ``marks`` of a tally the first one of the time of the mark sent at ``sent`` is."""
        if len(marks) == 1:
            return 0
        return bisect_left(marks, (self.others[index][3][2 * sent], ""))


def _calls(tallies: Sequence[Tally]) -> Iterator[_Call]:
    """Cut the tallies, and the marks of very long ones, into calls. No key is twice in a call: order stays."""
    call = _Call()
    for index, tally in enumerate(tallies):
        marks = tally.marks
        if len(marks) > tally.threshold + 1:
            marks = _collapsed(marks, tally.threshold + 1)
        for at in range(0, len(marks), _MARKS):
            part = marks if len(marks) <= _MARKS else marks[at : at + _MARKS]
            if len(part) > call.room or call.size == _TALLIES or tally.key in call.keys:
                yield call
                call = _Call()
            call.add(index, tally, part)
    if call.size:
        yield call


def _collapsed(marks: Sequence[tuple[int, str]], most: int) -> list[tuple[int, str]]:
    """Leave the first ``most`` marks of every time: more of them do not change what the tally comes to."""
    kept = []
    previous, number = -1, 0
    for mark in marks:
        number = number + 1 if mark[0] == previous else 1
        previous = mark[0]
        if number <= most:
            kept.append(mark)
    return kept
