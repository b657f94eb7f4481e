"""One suite for both limiters."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from logguardd.limiter import GRACE
from logguardd.limiter.memory import MemoryLimiter
from logguardd.limiter.redis import RedisLimiter
from logguardd.records import SECOND, Verdict
from tests.integration.limiters import WINDOW, T, judged, tally, with_limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from logguardd.limiter import Limiter


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[[], Limiter]:
    """A maker of the limiter; it is made within the event loop that it is used in."""
    if request.param == "memory":
        return MemoryLimiter
    server = request.getfixturevalue("redis_server")
    return lambda: RedisLimiter(server.url)


def test_a_hundred_are_allowed_and_the_next_one_exceeds(make):
    batches = [[tally((T + n * SECOND // 2, f"j:{n}"), threshold=100)] for n in range(101)]
    verdicts = [batch[0] for batch in judged(make, *batches)]
    assert [verdict.hits for verdict in verdicts] == list(range(1, 102))
    assert {verdict.exceeded_at for verdict in verdicts[:100]} == {-1}
    assert verdicts[100] == Verdict(0, 101)


@pytest.mark.parametrize("together", [True, False])
def test_marks_count_together_however_they_are_cut(make, together):
    marks = [(T, "j:1"), (T + 1, "j:2"), (T + 1, "j:3"), (T + 2, "j:4")]
    batches = [[tally(*marks)]] if together else [[tally(mark)] for mark in marks]
    verdicts = [batch[0] for batch in judged(make, *batches)]
    expected = [Verdict(1, 3)] if together else [Verdict(-1, 1), Verdict(-1, 2), Verdict(0, 3), Verdict(0, 3)]
    assert verdicts == expected


@pytest.mark.parametrize(("gap", "exceeded_at"), [(WINDOW - 1, 0), (WINDOW, -1)])
def test_the_window_is_open_at_its_beginning_to_the_microsecond(make, gap, exceeded_at):
    verdicts = judged(make, [tally((T, "j:1"), (T + 1, "j:2"))], [tally((T + gap, "j:3"))])
    assert verdicts[1][0].exceeded_at == exceeded_at


def test_asking_for_hits_counts_nothing(make):
    asked = [tally(key="a", threshold=3), tally(key="b"), tally(key="none")]

    async def use(limiter):
        await limiter.count([tally((T, "j:1"), (T + 5, "j:2"), key="a", threshold=3), tally((T, "j:3"), key="b")])
        found = [await limiter.hits(asked, now) for now in (T + 5, T + WINDOW - 1, T + WINDOW, T + WINDOW + 5)]
        verdicts = await limiter.count([tally((T + 6, "j:4"), key="a", threshold=3)])
        return found, verdicts

    found, verdicts = with_limiter(make, use)
    assert found == [[2, 1, 0], [2, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert verdicts == [Verdict(-1, 3)]


def test_a_threshold_of_none(make):
    assert judged(make, [tally((T, "j:1"), threshold=0)]) == [[Verdict(0, 1)]]


def test_nothing_to_count(make):
    assert judged(make, [], [tally()]) == [[], [Verdict(-1, 0)]]


def test_counting_again_changes_nothing(make):
    batch = [tally((T, "j:1"), (T + 1, "j:2")), tally((T + 1, "j:2"), key="other")]
    first, *others = judged(make, batch, batch, batch)
    assert all(other == first for other in others)


def test_a_late_mark_of_another_daemon_counts(make):
    verdicts = judged(make, [tally((T + 10, "a:1"), (T + 11, "a:2"))], [tally((T + 9, "b:1"))])
    assert verdicts[1] == [Verdict(0, 3)]


def test_of_very_many_marks_the_right_one_exceeds(make):
    marks = [(T + second * SECOND, f"j:{second * 1000 + n}") for second in (0, 30, 100) for n in range(900)]
    early = [(T - 80 * SECOND, "j:0a"), *marks]
    assert judged(make, [tally(*early, threshold=1500)]) == [[Verdict(901, 900)]]
    assert judged(make, [tally(*early, key="b", threshold=500)]) == [[Verdict(1, 501)]]
    assert judged(make, [tally(*early, key="c", threshold=5)]) == [[Verdict(1, 6)]]


def test_keys_that_look_odd_are_just_keys(make):
    keys = ['auth:2001:db8::/64:0"', "a b", "\\", "ä", "'}]", "%s"]
    tallies = [tally((T, f"j:{key}"), key=key) for key in keys]
    assert judged(make, tallies, tallies) == [[Verdict(-1, 1)] * len(keys)] * 2


def test_forget(make):
    async def use(limiter: Limiter) -> list[Verdict]:
        await limiter.count([tally((T, "j:1"), (T, "j:2")), tally((T, "j:1"), key="other")])
        await limiter.forget([tally(key="k").key, "unknown"])
        await limiter.forget([])
        return await limiter.count([tally((T, "j:3")), tally((T, "j:3"), key="other")])

    assert with_limiter(make, use) == [Verdict(-1, 1), Verdict(-1, 2)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("late", [0, GRACE // SECOND - 2])
def test_both_give_equal_verdicts_on_random_histories(redis_server, seed, late):
    chance = random.Random(seed)
    batches, now, position = [], T, 0
    for _ in range(60):
        now += chance.choice((0, 1, 300, SECOND, 29 * SECOND, 30 * SECOND))
        batch = []
        for key in chance.sample(range(40), chance.randrange(1, 30)):
            times = sorted(
                now + chance.choice((0, 0, 0, 1, SECOND)) - chance.randrange(late + 1) * SECOND
                for _ in range(chance.choice((1, 1, 1, 2, 3, 12)))
            )
            marks = [(at, f"j:{position + number}") for number, at in enumerate(times)]
            # Now and then something is counted again.
            position += 0 if chance.random() < 0.1 else len(marks)
            batch.append(tally(*marks, key=f"{seed}:{late}:{key}", threshold=key % 7))
        batches.append(batch)
    # In Redis a member has one time, so what is counted again must have the same.
    first: dict[tuple[str, str], int] = {}
    batches = [
        [
            one._replace(marks=sorted(((first.setdefault((one.key, name), at), name) for at, name in one.marks)))
            for one in batch
        ]
        for batch in batches
    ]
    memory = judged(MemoryLimiter, *batches)
    redis = judged(lambda: RedisLimiter(redis_server.url), *batches)
    assert memory == redis
    assert {verdict.exceeded_at >= 0 for batch in memory for verdict in batch} == {True, False}
