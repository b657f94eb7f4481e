"""logguardctl explain and test-rules, on rule files of their own."""

import io
import json
import sys

import pytest

from logguardd import ctl, exits

RULES = r"""
[[rule]]
name = "sshd-failed"
app_name = ["sshd"]
match = ["Failed password for <user> from <ip> port <port> ssh2"]
service = "ssh"
tags = ["auth-failure"]
severity = "medium"
attack = ["T1110"]
example = ["Failed password for root from 203.0.113.5 port 40022 ssh2"]
ignore = ["Failed password for root from 203.0.113.5 port 40022 ssh2 extra"]

[[rule]]
name = "sshd-closed"
app_name = ["sshd"]
match = ["Connection closed by <ip> port <port>"]
severity = "info"
example = ["Connection closed by 203.0.113.5 port 40022"]
"""
MESSAGE = "Failed password for root from 203.0.113.5 port 40022 ssh2"


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "ssh.toml"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def logguardctl(capsys):
    def run(*argv):
        code = exits.run(ctl.command, "logguardctl", argv)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def explained(logguardctl, *argv):
    code, out, err = logguardctl("explain", "--json", *argv)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_explain_a_message(logguardctl, rules):
    found = explained(logguardctl, "--rules", rules, "--app-name", "sshd", MESSAGE)
    assert found["match"] == {
        "rule": "sshd-failed",
        "tags": ["auth-failure"],
        "severity": "medium",
        "attack": ["T1110"],
        "address": "203.0.113.5",
        "source_port": 40022,
        "port": 22,
        "protocol": None,
        "user": "root",
        "times": 1,
        "countable": True,
    }
    assert found["jails"] == ["flood", "auth"]
    assert found["tried"][-1]["values"] == [["user", "root"], ["ip", "203.0.113.5"], ["port", "40022"]]


@pytest.mark.parametrize(
    "line",
    [
        f"<86>Nov 20 10:00:00 web1 sshd[7]: {MESSAGE}",
        f"Nov 20 10:00:00 web1 sshd[7]: {MESSAGE}",
        f"<86>1 2026-11-20T10:00:00Z web1 sshd 7 - - {MESSAGE}",
    ],
)
def test_explain_a_line(logguardctl, rules, line):
    found = explained(logguardctl, "--rules", rules, line)
    assert (found["app_name"], found["message"]) == ("sshd", MESSAGE)
    assert found["match"]["rule"] == "sshd-failed"


def test_explain_standard_input(logguardctl, rules, monkeypatch):
    lines = f"<86>Nov 20 10:00:00 web1 sshd[7]: {MESSAGE}\n\n<13>Nov 20 10:00:00 web1 app: \xff\n".encode("latin-1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, out, _ = logguardctl("explain", "--rules", rules, "--json")
    assert code == 0
    first, second = (json.loads(line) for line in out.splitlines())
    assert first["match"]["rule"] == "sshd-failed"
    assert (second["app_name"], second["message"], second["match"], second["jails"]) == ("app", r"\xff", None, [])


def test_explain_for_people(logguardctl, rules):
    _, out, _ = logguardctl("explain", "--rules", rules, "--app-name", "sshd", MESSAGE)
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert rows["rule"].strip() == "sshd-failed (medium, auth-failure, T1110)"
    assert rows["address"].strip() == "203.0.113.5"
    assert rows["jails"].strip() == "flood, auth"


def test_explain_what_no_rule_claims(logguardctl, rules):
    _, out, _ = logguardctl("explain", "--rules", rules, "--app-name", "sshd", MESSAGE.replace("for", "vor"))
    assert "none; the endpoint grammar found this" in out
    assert "Patterns that come furthest, of 2" in out
    assert "fits up to column 1" in out
    _, out, _ = logguardctl("explain", "--rules", rules, "--app-name", "sshd", "hello \x1b[2J")
    assert "none, and no address stands in it" in out
    assert r"hello \x1b[2J" in out


def test_info_is_not_counted(logguardctl, rules):
    found = explained(
        logguardctl, "--rules", rules, "--app-name", "sshd", "Connection closed by 203.0.113.5 port 40022"
    )
    assert (found["match"]["rule"], found["jails"]) == ("sshd-closed", [])


def test_the_configuration_says_which_rules_jails_and_ports(logguardctl, rules, tmp_path):
    file = tmp_path / "logguardd.toml"
    file.write_text(f'[detection]\nrules = ["{rules}"]\nservices = {{ssh = 2222}}\n[jail.flood]\nenabled = false\n')
    code, out, _ = logguardctl("--config", str(file), "explain", "--json", "--app-name", "sshd", MESSAGE)
    assert code == 0
    found = json.loads(out)
    assert (found["match"]["port"], found["jails"]) == (2222, ["auth"])


def test_test_rules(logguardctl, rules):
    code, out, err = logguardctl("test-rules", rules)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "OK: 2 rules, 3 examples"
    assert "sshd-failed" in out
    _, out, _ = logguardctl("test-rules", "-v", rules)
    assert f"{MESSAGE} extra" in out
    _, out, _ = logguardctl("test-rules", "--json", rules)
    first = json.loads(out)["rules"][0]
    assert first["examples"][0]["address"] == "203.0.113.5"
    assert first["ignored"][0]["msg"].endswith("extra")


def test_test_rules_finds_every_error_of_every_file(logguardctl, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text(RULES.replace("sshd", name).replace("ssh2 extra", "ssh2"))
    code, out, err = logguardctl("test-rules", str(tmp_path))
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"logguardctl: {tmp_path}/a.toml: line 2, rule a-failed: ignore 1")
    assert second.startswith(f"logguardctl: {tmp_path}/b.toml: line 2, rule b-failed: ignore 1")


def test_rules_that_take_one_anothers_names(logguardctl, rules, tmp_path):
    (tmp_path / "b.toml").write_text(RULES)
    code, _, err = logguardctl("test-rules", str(tmp_path))
    assert code == 2
    assert "is taken by the rule at" in err


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("test-rules", "/nonexistent"), "/nonexistent: cannot be read: No such file or directory"),
        (("explain", "--rules", "/nonexistent", "x"), "/nonexistent: cannot be read"),
        (("explain", "--app-name", "sshd"), "--app-name needs a MESSAGE"),
        (("--config", "/nonexistent", "explain", "x"), "/nonexistent: cannot be read"),
    ],
)
def test_wrong_usage(logguardctl, argv, what):
    code, out, err = logguardctl(*argv)
    assert (code, out) == (2, "")
    assert what in err
