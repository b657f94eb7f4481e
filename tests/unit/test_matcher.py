from __future__ import annotations

import pytest

from logguardd.grammar import parse
from logguardd.records import Rule
from logguardd.rules import record
from logguardd.rules.matcher import Matcher, applies, fits, heads, unwrap


def rule(name, *app_name, port=0):
    return Rule(name, app_name, frozenset(), "low", port=port)


def claimed(matcher, message, app_name="x"):
    (found,) = matcher.match([record(app_name, message)])
    return found and found.rule and found.rule.name


@pytest.mark.parametrize(
    ("glob", "name", "wanted"),
    [
        ("sshd", "sshd", True),
        ("sshd", "SSHD", False),
        ("sshd", "sshd-session", False),
        ("*", "", True),
        ("*", "anything/at.all", True),
        ("postfix/*", "postfix/smtpd", True),
        ("postfix/*", "postfix", False),
        ("*/smtpd", "postfix/submission/smtpd", True),
        ("*/smtpd", "smtpd", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "ac", False),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),
        ("a**b", "ab", True),
        ("[a]?", "a1", False),
        ("[a]?", "[a]?", True),
    ],
)
def test_globs(glob, name, wanted):
    assert fits(glob, name) == wanted


def test_a_glob_of_many_stars_takes_linear_time():
    assert not fits("*a" * 100 + "b", "a" * 100_000)


def test_applies():
    assert applies(rule("r"), None)
    assert applies(rule("r"), "x")
    assert applies(rule("r", "y", "x*"), "xz")
    assert not applies(rule("r", "x"), None)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("Failed password for <user> from <ip>", {"Failed password "}),
        ("Failed <word>", {"Failed "}),
        ("exact", {"exact"}),
        ("[error: ]PAM: <text>", {"error: PAM: ", "PAM: "}),
        ("(a|b[c])d<word>", {"ad", "bd", "bcd"}),
        ("<word> x", {""}),
        ("[<word> ]x", {"", "x"}),
        ("(<int>|y)z", {"", "yz"}),
        ("<text>", {""}),
        ("(aaaaaaaaaaaaaaaaaaaaaaaa|aaaaaaaaaaaaaaaaaaaaaaab) <ip>", {"a" * 16}),
    ],
)
def test_heads(pattern, wanted):
    assert heads(parse(pattern)) == wanted


def test_many_heads_are_shortened():
    found = heads(parse("(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d)(a|b|c|d) x"))
    assert len(found) <= 32
    assert all(len(head) <= 2 for head in found)


def test_the_order_of_rules_decides_whatever_their_heads():
    patterns = ["a <word>", "<word> b", "a b", "(a|x) <word>", "[a ]b"]
    matcher = Matcher([(rule(text), parse(text)) for text in patterns])
    assert claimed(matcher, "a b") == "a <word>"
    assert claimed(matcher, "c b") == "<word> b"
    assert claimed(matcher, "x c") == "(a|x) <word>"
    assert claimed(matcher, "b") == "[a ]b"
    assert claimed(matcher, "") is None
    later = Matcher([(rule(text), parse(text)) for text in reversed(patterns)])
    assert claimed(later, "a b") == "[a ]b"


def test_short_messages_meet_short_patterns():
    matcher = Matcher([(rule("one"), parse("x")), (rule("two"), parse("xy<word>")), (rule("rest"), parse("<text>"))])
    assert [claimed(matcher, text) for text in ("x", "xyz", "xy", "", "x" * 99)] == [
        "one",
        "two",
        "rest",
        "rest",
        "rest",
    ]


def test_invented_names_do_not_fill_memory():
    matcher = Matcher([(rule("one", "x*"), parse("x")), (rule("two", "*y"), parse("y"))])
    for start in range(0, 20_000, 1000):
        matcher.match([record(f"n{number}", "x") for number in range(start, start + 1000)])
    matcher.match([record("long" * 1000, "x")])
    assert len(matcher._by_name) <= 4096
    assert "long" * 1000 not in matcher._by_name
    assert len(matcher._by_rules) <= 4
    assert claimed(matcher, "x", "xy") == "one"
    assert claimed(matcher, "y", "xy") == "two"


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("message repeated 5 times: [ a b]", ("a b", 5)),
        ("message repeated 5 times: [ a]]", ("a]", 5)),
        ("message repeated 5 times: [ ]", ("", 5)),
        ("message repeated 5 times: [a]", ("a", 5)),
        ("message repeated 5 times: a", ("message repeated 5 times: a", 1)),
        ("message repeated -5 times: [ a]", ("message repeated -5 times: [ a]", 1)),
        ("message repeated \u0665 times: [ a]", ("message repeated \u0665 times: [ a]", 1)),
        ("a", ("a", 1)),
    ],
)
def test_unwrap(message, wanted):
    assert unwrap(message) == wanted
