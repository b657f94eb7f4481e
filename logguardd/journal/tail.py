"""The newest batches in memory, so that consumers that keep up never read the disk."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.records import Batch

#: What a batch takes in memory beside its frames, about.
_BATCH = 400


class Tail:
    """Batches in order of position, the oldest forgotten beyond ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: list[Batch] = []
        self._offsets: list[int] = []
        self._bytes = 0

    def add(self, batches: Sequence[Batch]) -> None:
        """Take batches that follow the ones already here."""
        self._batches += batches
        self._offsets += [batch.offset for batch in batches]
        self._bytes += sum(len(batch.frames) + _BATCH for batch in batches)
        gone = 0
        while self._bytes > self._max_bytes and gone < len(self._batches):
            self._bytes -= len(self._batches[gone].frames) + _BATCH
            gone += 1
        self._forget(gone)

    def drop_before(self, offset: int) -> None:
        """Forget the batches that end at or before ``offset``."""
        gone = max(self._find(offset), 0)
        self._bytes -= sum(len(batch.frames) + _BATCH for batch in self._batches[:gone])
        self._forget(gone)

    def read(self, offset: int, max_bytes: int) -> list[Batch]:
        """Return batches as Journal.read does; an empty list when ``offset`` lies before the tail."""
        index = self._find(offset)
        if index < 0:
            return []
        end, size = index, 0
        while end < len(self._batches) and size < max_bytes:
            size += len(self._batches[end].frames)
            end += 1
        return self._batches[index:end]

    def _find(self, offset: int) -> int:
        """Return the index of the batch that holds ``offset``, or that follows it after a gap; -1 before the tail."""
        index = bisect_right(self._offsets, offset) - 1
        if index >= 0 and self._offsets[index] + self._batches[index].count <= offset:
            return index + 1
        return index

    def _forget(self, gone: int) -> None:
        if gone:
            del self._batches[:gone]
            del self._offsets[:gone]
