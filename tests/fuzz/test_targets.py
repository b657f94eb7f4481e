"""Every target of the fuzzer holds on what it begins with."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds(name: str) -> None:
    given = seeds(name)
    assert given
    for one in given[:: max(1, len(given) // 40)]:
        TARGETS[name](one)
        TARGETS[name](one[: len(one) // 2])
    TARGETS[name](b"")
