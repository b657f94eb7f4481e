"""Patterns whose address could be forged do not load, and rules that could claim one another's messages neither."""

from __future__ import annotations

import re

import pytest

from logguardd.errors import RuleError
from logguardd.grammar import parse
from logguardd.grammar.automaton import Automaton
from logguardd.grammar.proof import ambiguity, forgery
from logguardd.rules import load

FORGEABLE = [
    "login <user>[ from <ip>]",
    "<user> from <ip>[ <word> <word>]",
    "<user> <ip>[ <word>]",
    "Failed <word> for <user> from <ip>[ port <port>][ from <host>]",
    "<user>:<ip>",
    "<user>[ <ip>]",
    "(<user> from <ip>|<ip> said <text>)",
    "x[ <word>] <ip> <text>",
    "x[ <name>] <ip>[ <word>]",
    "x[ <host>] <ip> <text>",
    "<text> <ip>, <word>[ <dip>, <word>]",
    "<ip>[:<port>]",
    "<ip>[:<port>] <text>",
    "<ip>[.<int>] x",
    "x [<word> ]<ip>[ <host>]",
]
SAFE = [
    "Failed <word> for [invalid user ]<user> from <ip> port <port>[ ssh2]",
    "Connection (closed|reset) by [(invalid|authenticating) user <user> ]<ip> port <port>[ \\[preauth\\]]",
    "Invalid user <user> from <ip>[ port <port>]",
    "Bad protocol version identification '<text>' from <ip>[ port <port>]",
    "<user>\\[<ip>\\]",
    "<text>: user=\\<<user>\\>, method=<word>, rip=<ip>, lip=<dip>[, TLS][, session=\\<<word>\\>]",
    "*<int> <text>, client: <ip>, server: <word>, request: <quoted>[, host: <quoted>][, referrer: <quoted>]",
    "rhost=(<ip>|<host>)[  user=<user>]",
    "<ip>:<port> <text>",
    "<ip>: <text>",
    "<prefix>IN=[<word>] OUT=[<word>] <fields>SRC=<ip> DST=<dip> <fields>PROTO=<proto>[ <fields>]",
]


@pytest.mark.parametrize("pattern", FORGEABLE)
def test_a_pattern_that_can_be_forged_does_not_load(pattern):
    with pytest.raises(RuleError, match=r"<ip> could be forged: the message '.*' can be read with") as error:
        parse(pattern)
    assert int(re.search(r"column (\d+): <ip>", str(error.value))[1]) == pattern.index("<ip>") + 1


@pytest.mark.parametrize("pattern", SAFE)
def test_a_pattern_that_cannot_be_forged_loads(pattern):
    assert ambiguity(Automaton(parse(pattern))) is None


def test_the_error_shows_a_message_with_two_readings():
    with pytest.raises(RuleError) as error:
        parse("<user> from <ip>[ <word> <word>]")
    assert "'from :: from ::'" in str(error.value).replace("' from", "'from")
    assert "the address '::' at column 7" in str(error.value)
    assert "the address '::' at column 15" in str(error.value)


def test_an_optional_port_after_ipv6_is_told_how_to_write():
    with pytest.raises(RuleError, match="write a pattern for each form"):
        parse("<ip>[:<port>] said <text>")


def test_a_forgery_needs_an_address_in_the_earlier_pattern_and_another_or_none_in_the_later():
    earlier, later = (Automaton(parse(text)) for text in ("<text> from <ip>", "login by <ip> as <user>"))
    conflict = forgery(earlier, later)
    assert conflict is not None
    assert conflict.one.column > conflict.other.column > 0
    no_address = Automaton(parse("login as <user>"))
    assert forgery(earlier, no_address).other.column == 0
    assert forgery(no_address, earlier) is None


def _rules(*patterns, app_name='["x"]', names="abc"):
    return "".join(
        f"[[rule]]\nname = '{name}'\napp_name = {app}\nmatch = ['{pattern}']\nexample = ['{example}']\n"
        for name, (pattern, example), app in zip(
            names, patterns, app_name if isinstance(app_name, tuple) else (app_name,) * 3, strict=False
        )
    )


FIRST = ("<text> from <ip>", "x from ::1")
SECOND = ("login by <ip> as <user>", "login by ::1 as x")


@pytest.mark.parametrize(
    "apps", [('["x"]', '["x", "y"]'), ('["x*"]', '["xy"]'), ("[]", '["y"]'), ('["x*"]', '["xy*z"]')]
)
def test_rules_of_one_program_that_cross_do_not_load(apps):
    with pytest.raises(RuleError) as error:
        load([("f.toml", _rules(FIRST, SECOND, app_name=apps))])
    assert str(error.value).startswith(
        "f.toml: line 6, rule b: match 1: an attacker could forge the address: 'login by "
    )
    assert "f.toml: line 1, rule a: match 1 claims it first" in str(error.value)


@pytest.mark.parametrize("apps", [('["x"]', '["y"]'), ('["x*"]', '["y*"]'), ('["xy"]', '["x*z"]')])
def test_rules_of_different_programs_do_not_cross(apps):
    load([("f.toml", _rules(FIRST, SECOND, app_name=apps))])


def test_the_other_order_can_be_safe():
    ip_first = ("login by <ip>: <text>", "login by ::1: x")
    load([("f.toml", _rules(ip_first, ("refused <user> from <ip>", "refused x from ::1")))])
    no_address = ("started <text>", "started x")
    with pytest.raises(RuleError, match="could forge"):
        load([("f.toml", _rules(FIRST, no_address))])
    load([("f.toml", _rules(no_address, FIRST))])


def test_a_rule_for_the_rest_may_come_last():
    load([("f.toml", _rules(FIRST, ("<text>", "hello")))])
