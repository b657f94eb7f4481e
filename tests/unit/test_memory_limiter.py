from __future__ import annotations

import asyncio

import pytest

from logguardd.limiter import GRACE
from logguardd.limiter.memory import MemoryLimiter
from logguardd.metrics import Metrics
from logguardd.records import SECOND, Tally, Verdict

T = 1_790_000_000 * SECOND
WINDOW = 60 * SECOND


def tally(*marks: tuple[int, str], key: str = "k", window: int = WINDOW, threshold: int = 2) -> Tally:
    return Tally(key, window, threshold, marks)


def count(limiter: MemoryLimiter, *tallies: Tally) -> list[Verdict]:
    return asyncio.run(limiter.count(tallies))


def test_the_mark_after_the_threshold_exceeds():
    limiter = MemoryLimiter()
    verdicts = [count(limiter, tally((T + number, f"j:{number}")))[0] for number in range(4)]
    assert verdicts == [Verdict(-1, 1), Verdict(-1, 2), Verdict(0, 3), Verdict(0, 3)]


def test_marks_of_one_time_count_together():
    marks = [(T, "j:1"), (T + 5, "j:2"), (T + 5, "j:3"), (T + 5, "j:4")]
    assert count(MemoryLimiter(), tally(*marks)) == [Verdict(1, 3)]


def test_a_threshold_of_none_exceeds_at_once():
    assert count(MemoryLimiter(), tally((T, "j:1"), threshold=0)) == [Verdict(0, 1)]


@pytest.mark.parametrize(("gap", "exceeded_at"), [(WINDOW - 1, 0), (WINDOW, -1)])
def test_the_window_is_open_at_its_beginning(gap, exceeded_at):
    limiter = MemoryLimiter()
    count(limiter, tally((T, "j:1"), (T + 1, "j:2")))
    assert count(limiter, tally((T + gap, "j:3")))[0].exceeded_at == exceeded_at


def test_counting_again_changes_nothing():
    limiter = MemoryLimiter()
    for _ in range(3):
        assert count(limiter, tally((T, "j:1"), (T + 1, "j:2"))) == [Verdict(-1, 2)]
    assert limiter.members == 2


def test_a_late_mark_completes_the_window_of_a_newer_one():
    limiter = MemoryLimiter()
    count(limiter, tally((T + 10, "a:1"), (T + 11, "a:2")))
    assert count(limiter, tally((T + 9, "b:1")))[0].exceeded_at == 0
    assert count(limiter, tally((T + 11 - WINDOW, "b:2"), threshold=3))[0].exceeded_at == -1


def test_jails_do_not_share_keys():
    limiter = MemoryLimiter()
    assert count(limiter, *[tally((T, "j:1"), key=f"k{n}") for n in range(5)]) == [Verdict(-1, 1)] * 5


def test_no_marks_are_no_hits():
    assert count(MemoryLimiter(), tally()) == [Verdict(-1, 0)]


def test_a_key_holds_no_more_than_it_takes_to_exceed():
    limiter = MemoryLimiter()
    count(limiter, tally(*[(T, f"j:{number}") for number in range(1000)]))
    assert limiter.members == 3


def test_keys_expire_with_the_time_of_others():
    limiter = MemoryLimiter()
    count(limiter, *[tally((T, "j:1"), key=f"old{n}") for n in range(50)])
    count(limiter, tally((T, "j:1"), key="long", window=100 * WINDOW))
    count(limiter, tally((T + WINDOW + GRACE, "j:2"), key="new"))
    assert limiter.members == 2


def test_expiry_is_spread_over_calls():
    limiter = MemoryLimiter()
    count(limiter, *[tally((T, "j:1"), key=f"old{n}") for n in range(1000)])
    left = []
    for number in range(12):
        count(limiter, tally((T + 2 * WINDOW, f"j:{number}"), key="new"))
        left.append(limiter.members)
    assert 800 < left[0] < 1000
    assert left[-1] == 3


def test_a_clock_set_back_does_not_stop_counting():
    limiter = MemoryLimiter()
    count(limiter, tally(*[(T + 3600 * SECOND, f"j:{n}") for n in range(3)]))
    verdicts = [count(limiter, tally((T, f"j:{n}")))[0].exceeded_at for n in range(3, 6)]
    assert verdicts == [-1, -1, 0]


def test_the_oldest_keys_make_room_when_the_bound_is_reached():
    metrics = Metrics()
    limiter = MemoryLimiter(max_members=10, metrics=metrics)
    for number in range(8):
        mark = (T + number, f"j:{number}")
        count(limiter, tally(mark, key=f"k{number}"), tally(mark, key="hot", threshold=4))
    assert limiter.members <= 10
    # What is counted all the time stays, what was counted first has gone.
    assert count(limiter, tally((T + 9, "j:9"), key="hot", threshold=4))[0].hits == 5
    assert count(limiter, tally((T + 9, "j:2"), key="k0"))[0].hits == 1
    for number in range(20):
        count(limiter, tally((T + 10, "j:1"), key=f"n{number}"))
    assert limiter.members == 10
    assert limiter.evicted == metrics.registry.get_sample_value("logguardd_limiter_evicted_total") > 0


def test_forget():
    limiter = MemoryLimiter()
    count(limiter, tally((T, "j:1"), (T, "j:2")), tally((T, "j:1"), key="other"))
    asyncio.run(limiter.forget(["k", "unknown"]))
    assert limiter.members == 1
    assert count(limiter, tally((T, "j:3")))[0].hits == 1


def test_calls_are_counted():
    metrics = Metrics()
    limiter = MemoryLimiter(metrics=metrics)
    count(limiter)
    count(limiter, tally((T, "j:1")))
    assert metrics.registry.get_sample_value("logguardd_limiter_calls_total", {"limiter": "memory"}) == 1
