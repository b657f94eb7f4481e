from __future__ import annotations

import pytest

from logguardd.errors import RuleError
from logguardd.records import Match, Rule
from logguardd.rules import RuleSet, load, record

RULE = """\
[[rule]]
name     = "sshd-failed-password"
description = "A password was wrong."
app_name = ["sshd", "sshd-session"]
match    = ["Failed <word> for [invalid user ]<user> from <ip> port <port>[ ssh2]"]
service  = "ssh"
tags     = ["auth-failure"]
severity = "medium"
attack   = ["T1110", "T1110.001"]
example  = [
    "Failed password for root from 203.0.113.5 port 40022 ssh2",
    { app_name = "sshd-session", msg = "message repeated 3 times: [ Failed password for a from ::1 port 1]", address = "::1", source_port = 1, port = 22, user = "a", times = 3 },
]
ignore   = ["Failed password for root from 203.0.113.5 port 40022 ssh2 extra"]
"""
MESSAGE = "Failed password for root from 203.0.113.5 port 40022 ssh2"


def match(rules: RuleSet, message: str, app_name: str | None = "sshd") -> Match | None:
    (found,) = rules.match([record(app_name, message)])
    return found


def test_a_rule_is_read():
    rules = load([("f.toml", RULE)])
    assert rules.rules == (
        Rule(
            name="sshd-failed-password", app_name=("sshd", "sshd-session"), tags=frozenset({"auth-failure"}),
            severity="medium", service="ssh", port=22, attack=("T1110", "T1110.001"),
        ),
    )  # fmt: skip


def test_a_match():
    rules = load([("f.toml", RULE)])
    assert match(rules, MESSAGE) == Match(rules.rules[0], "203.0.113.5", 40022, 22, None, "root", countable=True)
    assert match(rules, MESSAGE.replace("203.0.113.5", "::ffff:203.0.113.5")).address == "203.0.113.5"
    assert match(rules, MESSAGE.replace("203.0.113.5", "0.0.0.0")).countable is False
    assert match(rules, MESSAGE, "other").rule is None
    assert match(rules, MESSAGE, None).rule is None
    assert match(rules, "hello") is None


def test_a_batch_gives_one_result_a_record_in_order():
    rules = load([("f.toml", RULE)])
    found = rules.match([record("sshd", MESSAGE), record("sshd", "x"), record(None, "at 1.2.3.4"), record("sshd", "")])
    assert [each and each.address for each in found] == ["203.0.113.5", None, "1.2.3.4", None]
    assert rules.match([]) == []


@pytest.mark.parametrize(
    ("times", "counted"), [("2", 2), ("1000000", 1_000_000), ("1000001", 1_000_000), ("9" * 20, 1_000_000), ("0", 1)]
)
@pytest.mark.parametrize("blank", [" ", ""])  # without it where rsyslog got the message by RFC 5424
def test_repeated_messages_count_as_often_as_they_say(times, counted, blank):
    found = match(load([("f.toml", RULE)]), f"message repeated {times} times: [{blank}{MESSAGE}]")
    assert found.address == "203.0.113.5"
    assert found.times == counted


@pytest.mark.parametrize(
    "message",
    [f"message repeated {'9' * 21} times: [ {MESSAGE}]", f"message repeated 2 times: {MESSAGE}",
     f"message repeated 2 times: [ {MESSAGE}] ", f" message repeated 2 times: [ {MESSAGE}]"],
)  # fmt: skip
def test_what_is_not_rsyslogs_repetition_is_an_ordinary_message(message):
    found = match(load([("f.toml", RULE)]), message)
    assert found.rule is None
    assert found.times == 1


def test_services_may_be_added_and_changed():
    changed = RULE.replace(", port = 22", "").replace('"ssh"', '"frontdoor"')
    assert load([("f.toml", changed)], {"frontdoor": 8443}).rules[0].port == 8443
    assert load([("f.toml", RULE.replace("port = 22", "port = 2222"))], {"ssh": 2222}).rules[0].port == 2222
    assert load([("f.toml", changed.replace('"frontdoor"', "99"))]).rules[0].port == 99


def test_the_first_rule_in_the_order_of_files_claims_a_message():
    one = (
        RULE.replace("sshd-failed-password", "one")
        .replace("[invalid user ]<user>", "root")
        .replace("for a", "for root")
    )
    one = one.replace('user = "a", ', "").replace("ignore   = [", "ignore   = [] #")
    rules = load([("a.toml", one), ("b.toml", RULE.replace("for root", "for toor"))])
    assert match(rules, MESSAGE).rule.name == "one"
    assert match(rules, MESSAGE.replace("root", "bob")).rule.name == "sshd-failed-password"


def test_no_files_no_rules():
    assert load([]).rules == ()
    assert load([("empty.toml", "# nothing\n")]).rules == ()
    assert match(load([]), "from 203.0.113.5").address == "203.0.113.5"


def test_a_rule_without_address_claims_but_does_not_count():
    text = '[[rule]]\nname = "x"\nmatch = ["started <text>"]\nexample = ["started 1.2.3.4"]\n'
    found = match(load([("f.toml", text)]), "started 1.2.3.4", None)
    assert found == Match(found.rule, None, 0, 0, None, None, countable=False)
    assert found.rule.severity == "medium"
    assert found.rule.app_name == ()


def test_ports_and_protocol_of_the_message_go_before_the_service():
    text = (
        '[[rule]]\nname = "x"\nservice = "ssh"\nmatch = ["SRC=<ip> PROTO=<proto> SPT=<port> DPT=<dport>"]\n'
        'example = [{msg = "SRC=1.2.3.4 PROTO=TCP SPT=1 DPT=23", port = 23, protocol = "tcp", source_port = 1}]\n'
    )
    load([("f.toml", text)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[rule]]", "[[rule", "f.toml: line 1, column 7: not TOML: "),
        ('["Failed <word>', '["\\(Failed <word>', "a string; patterns are easiest in single quotes"),
        ("[[rule]]", "[rule]", "f.toml: rule: must be written as [[rule]]"),
        ("[[rule]]", "[[rules]]", "f.toml: rules: unknown key; did you mean rule?"),
        ('ignore   = ["', 'ignore   = ["""', "f.toml: line 15, column 1: not TOML: "),
        ("name     =", "nme =", "f.toml: line 1: nme: unknown key; did you mean name?"),
        ('name     = "sshd-failed-password"', "", "f.toml: line 1: name: missing"),
        ('"sshd-failed-password"', '"two words"', "f.toml: line 1: name: 'two words' is not a name"),
        ('"sshd-failed-password"', "3", "f.toml: line 1: name: 3 is not a name"),
        ("app_name", "appname", "f.toml: line 1, rule sshd-failed-password: appname: unknown key; did you mean app_name?"),
        ('["sshd", "sshd-session"]', '"sshd"', "rule sshd-failed-password: app_name: must be a list"),
        ('["sshd", "sshd-session"]', '["sshd", ""]', "app_name: number 2 must be a text that is not empty"),
        ('["sshd", "sshd-session"]', '["sshd", 3]', "app_name: number 2 must be a text that is not empty"),
        ('["Failed <word>', '["Failed <wrod>', "match 1, column 8: no token is called <wrod>; did you mean <word>?"),
        ('["Failed <word>', '["x", "Failed <word', "match 2, column 8: no token is called"),
        ('match    = ["', "match    = [] #", "rule sshd-failed-password: match: missing"),
        ('"ssh"', '"shs"', "service: 'shs' is not known; did you mean ssh?"),
        ('"ssh"', "0", "service: 0 is not known; allowed: a service's name or a port from 1 to 65535"),
        ('"ssh"', "true", "service: True is not known"),
        ('"medium"', '"urgent"', "severity: 'urgent' is not a severity; allowed: info, low, medium, high, critical"),
        ('"T1110"', '"1110"', "attack: '1110' is not a MITRE ATT&CK technique; allowed: T1110 or T1110.001"),
        ('"auth-failure"', '"auth failure"', "tags: 'auth failure' is not a name"),
        ('"A password was wrong."', "1", "description: must be a text"),
        ("40022 ssh2", "40022 ssh3", "example 1: matches no pattern of this rule; match 1: fits up to column 21, 'root from"),
        ("port = 22", "port = 23", "example 2: port is 22 in the match; the example says 23"),
        ('address = "::1"', 'address = "::2"', "example 2: address is '::1' in the match; the example says '::2'"),
        ("times = 3", 'times = "3"', "example 2: times is 3 in the match; the example says '3'"),
        ("times = 3", "time = 3", "example 2: time: unknown key; did you mean times?"),
        ('msg = "message', 'mgs = "message', "example 2: mgs: unknown key; did you mean msg?"),
        ('app_name = "sshd-session"', 'app_name = "cron"', "example 2: app_name 'cron' is not among this rule's"),
        (" extra", "", "ignore 1: the rule claims this message, but must not"),
        ('ignore   = ["', 'ignore   = [7, "', "ignore 1: must be a message or a table"),
    ],
)  # fmt: skip
def test_mistakes_are_named_where_they_stand(old, new, message):
    assert old in RULE
    with pytest.raises(RuleError) as error:
        load([("f.toml", RULE.replace(old, new, 1))])
    assert message in str(error.value)
    assert str(error.value).startswith("f.toml: ")
    assert "\n" not in str(error.value)


def test_an_example_that_only_a_later_rule_claims_matches_no_pattern_of_its_own():
    rest = '[[rule]]\nname = "rest"\nmatch = ["<text>"]\nexample = [{ app_name = "x", msg = "x" }]\n'
    with pytest.raises(RuleError, match="example 1: matches no pattern of this rule; match 1: fits up to column 21"):
        load([("f.toml", RULE.replace("40022 ssh2", "40022 ssh3", 1)), ("g.toml", rest)])


def test_a_rule_needs_an_example():
    with pytest.raises(RuleError, match="rule x: example: missing"):
        load([("f.toml", '[[rule]]\nname = "x"\nmatch = ["a"]\n')])


def test_names_are_unique_over_all_files():
    with pytest.raises(RuleError) as error:
        load([("a.toml", RULE), ("b.toml", "\n" + RULE)])
    assert str(error.value) == (
        "b.toml: line 2, rule sshd-failed-password: name: sshd-failed-password is taken by the rule at a.toml: line 1; "
        "names are unique"
    )


def test_an_example_that_an_earlier_rule_claims_is_an_error():
    with pytest.raises(
        RuleError, match="rule two: example 1: is claimed by rule sshd-failed-password, which stands before"
    ):
        load([("a.toml", RULE), ("b.toml", RULE.replace("sshd-failed-password", "two"))])


def test_a_glob_stands_for_itself_without_stars_in_examples():
    text = '[[rule]]\nname = "x"\napp_name = ["postfix/*"]\nmatch = ["a"]\nexample = ["a", {app_name = "postfix/smtpd", msg = "a"}]\n'
    load([("f.toml", text)])


def test_deep_nesting_in_toml_is_an_error():
    with pytest.raises(RuleError, match=r"f\.toml: "):
        load([("f.toml", "x = " + "[" * 100_000)])


def test_all_mistakes_are_named_at_once():
    wrong = RULE.replace('"medium"', '"bad"').replace('"T1110"', '"X1"').replace("<port>[ ssh2]", "<prot>")
    other = RULE.replace("sshd", "other").replace("root from 203", "root at 203")
    with pytest.raises(RuleError) as error:
        load([("a.toml", wrong + wrong.replace("sshd", "b")), ("b.toml", "["), ("c.toml", other)])
    lines = str(error.value).split("\n")
    assert [line.partition(" ")[0] for line in lines] == ["a.toml:"] * 6 + ["b.toml:"] + ["c.toml:"]
    assert all(word in line for word, line in zip(["match 1", "severity", "attack"] * 2, lines, strict=False))
    assert "rule other-failed-password: example 1: " in lines[-1]
