"""Cutting batches: slices hold the same frames at the same positions."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from logguardd import rules
from logguardd.consumers import CACHED, MESSAGE, READ_MESSAGES, SLICE, Reader, slices
from logguardd.records import Batch, Origin

if TYPE_CHECKING:
    from logguardd.consumers import Parsed

ORIGIN = Origin("192.0.2.1", "tcp")


def batch(count: int, offset: int = 10) -> Batch:
    return Batch(offset, 5, ORIGIN, b"\n".join(b"frame %d" % n for n in range(count)), count)


def positions(parts: list[Batch]) -> dict[int, bytes]:
    found = {}
    for part in parts:
        frames = part.frames.split(b"\n")
        assert len(frames) == part.count
        assert (part.received_at, part.origin) == (5, ORIGIN)
        found |= {part.offset + n: frame for n, frame in enumerate(frames)}
    return found


def test_a_batch_that_is_needed_whole_and_small_enough_is_left_as_it_is() -> None:
    whole = batch(7)
    assert slices(whole, 3, 7) == [whole]
    assert slices(whole, 3, 7)[0] is whole


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("start", range(9, 18))
def test_slices_hold_each_frame_from_the_start_on_once_at_its_position(start: int, size: int) -> None:
    parts = slices(batch(7), start, size)
    assert positions(parts) == {n: b"frame %d" % (n - 10) for n in range(max(start, 10), 17)}
    assert all(part.count <= size for part in parts)


class Page:
    """A journal that holds these batches."""

    def __init__(self, *batches: Batch) -> None:
        self.batches = batches

    async def read(self, offset: int, max_bytes: int) -> list[Batch]:
        return [each for each in self.batches if each.offset + each.count > offset]


def test_of_tiny_messages_a_bounded_number_is_parsed_and_kept() -> None:
    count = 3 * READ_MESSAGES
    journal = Page(
        Batch(1, 5, ORIGIN, b"\n".join([b"x"] * count), count),
        *(batch(SLICE, count + 1 + n * SLICE) for n in range(30)),
    )
    reader = Reader(journal, rules.load([]), timezone=UTC, max_clock_skew=0)  # type: ignore[arg-type]

    async def everything() -> list[Parsed]:
        found: list[Parsed] = []
        while part := await reader.read(found[-1].batch.offset + found[-1].batch.count if found else 1):
            assert sum(len(each.records) for each in part) <= READ_MESSAGES + SLICE
            found += part
        return found

    first = asyncio.run(everything())
    assert sum(len(each.records) for each in first) == count + 30 * SLICE
    assert [each.batch.offset for each in first] == list(range(1, count + 30 * SLICE, SLICE))
    assert sum(each.batch.count for each in reader._cache.values()) <= CACHED // MESSAGE
    again = asyncio.run(everything())
    assert [each.batch for each in again] == [each.batch for each in first]
