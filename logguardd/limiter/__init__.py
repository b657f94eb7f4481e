"""Counting hits in sliding windows, in Redis for the whole fleet or in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tally(NamedTuple):
    """Marks to count under one key: the exact sliding-window log of one jail and one group.

    ``marks`` are (time in microseconds, member) in order of time; a member names a hit for ever, so counting it again
    changes nothing. A mark at time t exceeds when more than ``threshold`` members lie in (t - window, t].
    """

    key: str
    window: int
    threshold: int
    marks: Sequence[tuple[int, str]]


class Verdict(NamedTuple):
    """The outcome of a tally.

    ``exceeded_at`` indexes the first mark that exceeded, -1 for none; ``hits`` is the number of members in the window
    after the last mark (at most threshold + 1).
    """

    exceeded_at: int
    hits: int


class Limiter(Protocol):
    """Counts tallies. Bounded: at most threshold + 1 members a key, keys gone a window after their last mark."""

    async def count(self, tallies: Sequence[Tally]) -> list[Verdict]:
        """Count the marks of every tally and return a verdict for each, in order; raise errors.UnavailableError."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop what is counted under the keys (after an operator's unban)."""

    async def close(self) -> None:
        """Close connections."""
