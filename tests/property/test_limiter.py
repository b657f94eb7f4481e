"""The memory limiter against the definition: all marks ever counted, windows counted one by one."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from logguardd.limiter.memory import MemoryLimiter
from logguardd.records import SECOND, Tally, Verdict

START = 1_790_000_000 * SECOND
WINDOW = 100

Marks = list[tuple[int, str]]


class Oracle:
    """Keeps everything."""

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[int, str]]] = {}

    def count(self, tally: Tally) -> Verdict:
        seen = self.seen.setdefault(tally.key, set())
        seen.update(tally.marks)
        times = sorted(time for time, _ in seen)

        def exceeds(end: int) -> bool:
            return sum(end - tally.window < time <= end for time in times) > tally.threshold

        last = tally.marks[-1][0]
        hits = min(sum(time > last - tally.window for time in times), tally.threshold + 1)
        for index, (time, _) in enumerate(tally.marks):
            if exceeds(time):
                return Verdict(index, hits)
        for end in times:
            for index, (time, _) in enumerate(tally.marks):
                if end - tally.window < time <= end and exceeds(end):
                    return Verdict(index, hits)
        return Verdict(-1, hits)


@st.composite
def histories(draw: st.DrawFn, late: int = 0) -> list[Tally]:
    """Batches of some keys; time goes on from batch to batch, except that it may be ``late``."""
    thresholds = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    tallies = []
    now = START
    position = 0
    for _ in range(draw(st.integers(1, 12))):
        key = draw(st.integers(0, len(thresholds) - 1))
        marks: Marks = []
        for step in draw(st.lists(st.sampled_from((0, 0, 1, 10, 49, 50, 99, 100, 101)), min_size=1, max_size=8)):
            now += step
            # Members in no order of their own: positions grow a digit now and then.
            marks.append((now - draw(st.integers(0, late)), f"j:{position}"))
            position += 1
        marks.sort(key=lambda mark: mark[0])
        tallies.append(Tally(f"k{key}", WINDOW, thresholds[key], marks))
    return tallies


def judged(limiter: MemoryLimiter, tallies: list[Tally]) -> list[Verdict]:
    async def run() -> list[Verdict]:
        return [verdict for tally in tallies for verdict in await limiter.count([tally])]

    return asyncio.run(run())


@settings(deadline=None)
@given(histories())
def test_marks_in_order_are_judged_exactly(tallies: list[Tally]) -> None:
    oracle = Oracle()
    assert judged(MemoryLimiter(), tallies) == [oracle.count(tally) for tally in tallies]


@settings(deadline=None)
@given(histories(late=60))
def test_late_marks_are_never_counted_too_high(tallies: list[Tally]) -> None:
    oracle = Oracle()
    for got, expected in zip(judged(MemoryLimiter(), tallies), map(oracle.count, tallies), strict=True):
        assert got.exceeded_at == -1 or expected.exceeded_at != -1
        assert got.hits <= expected.hits


@settings(deadline=None)
@given(histories(late=5))
def test_a_few_late_marks_are_judged_exactly(tallies: list[Tally]) -> None:
    # Exact as long as no more than one newer mark of the key came before: here, one mark a tally, two a key.
    limiter, oracle = MemoryLimiter(), Oracle()
    for number, tally in enumerate(tallies[:2]):
        one = tally._replace(key="k", threshold=1, marks=[(tally.marks[0][0], f"j:{number}")])
        assert judged(limiter, [one])[0].exceeded_at == oracle.count(one).exceeded_at


@settings(deadline=None)
@given(histories(late=60), st.data())
def test_hits_counted_twice_change_nothing(tallies: list[Tally], data: st.DataObject) -> None:
    once, twice = MemoryLimiter(), MemoryLimiter()
    for tally in tallies:
        first = judged(once, [tally])
        assert judged(twice, [tally]) == first
        if data.draw(st.booleans()):
            # The daemon was killed after counting and counts the same batch again, maybe cut differently.
            cut = data.draw(st.integers(0, len(tally.marks)))
            parts = [tally._replace(marks=part) for part in (tally.marks[:cut], tally.marks[cut:]) if part]
            judged(twice, parts)
            again = judged(twice, [tally])
            assert (again[0].exceeded_at, again[0].hits) == first[0] or first[0].exceeded_at != -1
        assert twice._groups == once._groups
        assert twice.members == once.members


@settings(deadline=None)
@given(histories())
def test_a_batch_counted_again_gives_the_same_verdict(tallies: list[Tally]) -> None:
    limiter = MemoryLimiter()
    for tally in tallies:
        # One batch of the journal has one time.
        batch = tally._replace(marks=[(tally.marks[-1][0], member) for _, member in tally.marks])
        assert judged(limiter, [batch]) == judged(limiter, [batch])


@settings(deadline=None)
@given(histories(late=60))
def test_what_is_kept_is_bounded_and_does_not_depend_on_order(tallies: list[Tally]) -> None:
    forward, backward = MemoryLimiter(), MemoryLimiter()
    judged(forward, tallies)
    judged(backward, tallies[::-1])
    for tally in tallies:
        kept = forward._groups[WINDOW][tally.key]
        assert len(kept) <= tally.threshold + 1
        assert kept == backward._groups[WINDOW][tally.key]
