"""The two back ends are equal, and no sender of free text chooses the address."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from logguardd.errors import RuleError
from logguardd.grammar import compile as compiled
from logguardd.grammar import parse, reference
from logguardd.grammar.addresses import normal
from logguardd.rules.rulefile import read
from tests.property.messages import disturbed, free_patterns, patterns, written

CATALOGUE = sorted(Path("etc/rules.d").glob("*.toml"))
POOL = (
    "Failed <word> for [invalid user ]<user> from <ip> port <port>[ ssh2]",
    "Connection (closed|reset) by [(invalid|authenticating) user <user> ]<ip> port <port>[ \\[preauth\\]]",
    "Invalid user <user> from <ip>[ port <port>]",
    "error: PAM: <text> for [illegal user ]<user> from <ip>",
    "pam_unix\\(<word>:auth\\): authentication failure; ruser=[<word>] rhost=(<ip>|<host>)[  user=<user>]",
    "warning: <host>\\[<ip>\\]: SASL <word> authentication failed: <text>",
    "<text>: user=\\<<user>\\>, method=<word>, rip=<ip>, lip=<dip>[, TLS][, session=\\<<word>\\>]",
    "*<int> <text>, client: <ip>, server: <word>, request: <quoted>[, host: <quoted>][, referrer: <quoted>]",
    "<ip> <word> <word> <time> <quoted> <status> <int>[ <quoted>[ <quoted>]]",
    "<ip>:<port> <time> <word>: <text>",
    "<ip>: <text>",
    "from <ip>. Bye[%<hex>]",
    "<prefix>IN=[<word>] OUT=[<word>] [MAC=<word> ]SRC=<ip> DST=<dip> <fields>PROTO=<proto> [SPT=<port> DPT=<dport> ]<fields>",
    "a <text> b <text> c <user> (d|e) <ip>[ f]",
    "[(x <user>|y <text>) ]z(<int>|<hex>) <host>=<proto>",
)  # fmt: skip
EXACT = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@lru_cache(maxsize=512)
def both(pattern: str):
    tree = parse(pattern)
    return tree, compiled(tree), reference(tree)


@EXACT
@given(st.data())
def test_back_ends_are_equal_on_messages_like_a_patterns(data):
    tree, one, other = both(data.draw(st.sampled_from(POOL)))
    message = data.draw(disturbed(tree))
    assert one.match(message) == other.match(message)


@EXACT
@given(st.data())
def test_back_ends_are_equal_on_another_patterns_messages(data):
    _, one, other = both(data.draw(st.sampled_from(POOL)))
    message = data.draw(disturbed(both(data.draw(st.sampled_from(POOL)))[0]))
    assert one.match(message) == other.match(message)


@settings(EXACT, max_examples=60)
@given(patterns, st.data())
def test_back_ends_are_equal_for_any_pattern_that_loads(pattern, data):
    try:
        tree = parse(pattern)
    except RuleError:
        assume(False)
    one, other = compiled(tree), reference(tree)
    for message in data.draw(st.lists(disturbed(tree), min_size=3, max_size=10)):
        assert one.match(message) == other.match(message)


@EXACT
@given(st.data())
def test_a_pattern_takes_the_address_that_the_program_wrote(data):
    pattern = data.draw(st.sampled_from([text for text in POOL if "<ip>" in text]))
    tree, one, _ = both(pattern)
    message = data.draw(written(tree))
    found = one.match(message.text)
    if found is not None:
        assert found.get("address") == (normal(message.address) if message.address else None)


@settings(EXACT, max_examples=150)
@given(free_patterns, st.data())
def test_any_pattern_that_loads_takes_the_address_that_the_program_wrote(pattern, data):
    try:
        tree = parse(pattern)
    except RuleError:
        assume(False)
    one = compiled(tree)
    for message in data.draw(st.lists(written(tree), min_size=10, max_size=10)):
        found = one.match(message.text)
        # None: read with a host name where the address stands; the address is missed then, not forged.
        if found is not None and found.get("address") is not None:
            assert message.address is not None
            assert found["address"] == normal(message.address)


@EXACT
@given(patterns | st.text(max_size=30))
def test_any_text_loads_or_is_refused_with_a_column(text):
    reason = "FILE: match 1, column 1: loads"
    try:
        parse(text, "FILE: match 1")
    except RuleError as error:
        reason = str(error)
    assert reason.startswith("FILE: match 1, column ")
    assert "\n" not in reason


@pytest.mark.parametrize("file", CATALOGUE, ids=lambda file: file.stem)
def test_back_ends_are_equal_on_the_catalogue(file):
    for text in read(file.name, file.read_text(encoding="utf-8"), {})[0]:
        messages = [example.msg for example in (*text.examples, *text.ignores)]
        messages += [one + other for one in messages[:3] for other in messages[:3]]
        for pattern in text.patterns:
            one, other = compiled(pattern.tree), reference(pattern.tree)
            for message in messages:
                assert one.match(message) == other.match(message)
