from __future__ import annotations

from logguardd.rules import load, record

RULES = """
[[rule]]
name = "failed"
app_name = ["x"]
match = ["failed <word> for <user> from <ip>", "failed for <name> from <ip> port <port>"]
service = 99
example = ["failed pin for bob from ::1"]
[[rule]]
name = "started"
match = ["started[ <int>]"]
example = ["started"]
"""


def explain(message, app_name="x"):
    rules = load([("f.toml", RULES)])
    one = record(app_name, message)
    found = rules.explain(one)
    assert [found.match] == rules.match([one])
    return found


def test_the_pattern_that_claims_ends_the_list():
    found = explain("failed for bob from ::1 port 7")
    assert [(tried.rule, tried.matched) for tried in found.tried] == [("failed", False), ("failed", True)]
    assert found.tried[1].values == (("name", "bob"), ("ip", "::1"), ("port", "7"))
    assert found.match.rule.name == "failed"
    assert found.match.port == 99


def test_why_patterns_do_not_match():
    first, second, third = explain("failed for bob in 1.2.3.4").tried
    assert (first.reached, second.reached, third.reached) == (10, 14, 0)
    assert second.reason == "fits up to column 15, ' in 1.2.3.4'"
    assert third.reason == "fits up to column 1, 'failed for bob in 1.2.3.'"


def test_a_message_that_ends_too_early():
    assert explain("failed for bob").tried[1].reason == "the message ends too early"


def test_other_programs_rules_are_not_tried_and_the_endpoint_grammar_answers():
    found = explain("failed for bob from 203.0.113.5 port 7", "y")
    assert [tried.rule for tried in found.tried] == ["started"]
    assert found.match.rule is None
    assert found.match.address == "203.0.113.5"


def test_repetition_is_taken_off():
    found = explain("message repeated 3 times: [ failed pin for bob from ::1]")
    assert found.message == "failed pin for bob from ::1"
    assert found.match.times == 3


def test_messages_that_may_have_been_cut():
    found = explain("failed pin for " + "x" * 350 + " from ::1")
    assert found.match.rule is None
    assert not found.match.countable
    assert "more than 350 octets" in found.tried[0].reason
    assert "more than 350 octets" in found.tried[1].reason
