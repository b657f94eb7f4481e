"""Counting hits in sliding windows, in Redis for the whole fleet or in memory.

What every limiter keeps under a key is the ``threshold + 1`` newest marks ever counted there, in order of time, then of
member; that is the same whatever the order in which marks arrive, and counting one again changes nothing. A mark at
time t exceeds when more than ``threshold`` of what is kept and counted now lies in (t - window, t]. A mark that comes
late, behind newer ones of another daemon, exceeds too when it completes a window that ends at one of the newer ones.
For marks in order of time this is exact. Late marks are never counted too high; too low only where so many newer ones
came between that what lies around the late ones is no longer kept; that also goes for marks counted again after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from logguardd.records import SECOND, Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GRACE", "Limiter", "Tally", "Verdict"]

#: How long a key outlives the window after its newest mark: a batch may be counted somewhat later than it came.
GRACE = 10 * SECOND


class Limiter(Protocol):
    """Counts tallies. Bounded: at most threshold + 1 members a key, keys gone a window (and GRACE) after their last mark."""

    async def count(self, tallies: Sequence[Tally]) -> list[Verdict]:
        """Count the marks of every tally and return a verdict for each, in order; raise errors.UnavailableError."""

    async def hits(self, tallies: Sequence[Tally], now: int) -> list[int]:
        """Return how many hits (threshold + 1 at most) each key has in the window that ends at ``now``; count nothing.

        The tallies' marks are left out. Raises errors.UnavailableError.
        """

    async def forget(self, keys: Sequence[str]) -> None:
        """Drop what is counted under the keys (after an operator's unban)."""

    async def close(self) -> None:
        """Close connections."""
