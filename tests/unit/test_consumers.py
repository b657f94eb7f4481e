"""Cutting batches: slices hold the same frames at the same positions."""

from __future__ import annotations

import pytest

from logguardd.consumers import slices
from logguardd.records import Batch, Origin

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
