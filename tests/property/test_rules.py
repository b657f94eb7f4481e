"""The compiled matcher equals the pyparsing reference over whole rule sets."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logguardd.rules import load, record
from tests.property.messages import disturbed

CATALOGUE = sorted(Path("etc/rules.d").glob("*.toml"))


@lru_cache(maxsize=1)
def catalogue():
    return load([(file.name, file.read_text(encoding="utf-8")) for file in CATALOGUE])


@pytest.mark.parametrize("file", CATALOGUE, ids=lambda file: file.stem)
def test_examples_and_ignores_of_the_catalogue(file):
    rules = catalogue()
    for text in rules.texts:
        if text.where.startswith(f"{file.name}: "):
            for example in (*text.examples[:3], *text.ignores[:3]):
                one = record(example.app_name, example.msg)
                assert rules.match([one]) == [rules.explain(one).match]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_messages_like_those_of_the_catalogue(data):
    rules = catalogue()
    text = data.draw(st.sampled_from(rules.texts))
    message = data.draw(disturbed(data.draw(st.sampled_from(text.patterns)).tree))
    name = data.draw(st.sampled_from([*text.rule.app_name, None])) if text.rule.app_name else None
    one = record(name and name.replace("*", "x"), message)
    assert rules.match([one]) == [rules.explain(one).match]
