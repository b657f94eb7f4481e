"""The shipped rules, etc/rules.d, against tests/corpus: messages as programs print them, and as attackers shape them."""

from __future__ import annotations

import re
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from logguardd import parsing
from logguardd.grammar import compile, reference  # noqa: A004 - the agreed name
from logguardd.grammar.structure import columns, free
from logguardd.records import SECOND, Batch, Origin
from logguardd.rules import RuleSet, load, record
from logguardd.rules.matcher import fits, unwrap

ROOT = Path(__file__).parents[2]
CORPUS = sorted((ROOT / "tests" / "corpus").glob("*.txt"))
#: What attackers write into their messages, in the corpus and in the rules' examples.
FORGED = {"9.9.9.9", "8.8.8.8"}


class Line(NamedTuple):
    """One line of the corpus; see the head of its files."""

    where: str
    section: str
    app_name: str | None
    rule: str
    address: str | None
    source_port: int
    port: int
    msg: str


def _lines(path: Path) -> list[Line]:
    found, section = [], ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            section = line[2:]
        elif line:
            columns_, _, msg = line.partition(" | ")
            app_name, rule, address, source_port, port = columns_.split()
            if msg.endswith("\\s"):
                msg = f"{msg[:-2]} "
            found.append(
                Line(
                    f"{path.name}:{number}",
                    section,
                    None if app_name == "-" else app_name,
                    rule,
                    None if address == "-" else address,
                    0 if source_port == "-" else int(source_port),
                    0 if port == "-" else int(port),
                    msg,
                )
            )
    return found


LINES = [line for path in CORPUS for line in _lines(path)]


@cache
def rules() -> RuleSet:
    paths = sorted((ROOT / "etc" / "rules.d").glob("*.toml"))
    return load([(path.name, path.read_text()) for path in paths])


@pytest.mark.parametrize("line", LINES, ids=[line.where for line in LINES])
def test_corpus(line: Line) -> None:
    (found,) = rules().match([record(line.app_name, line.msg)])
    if found is None:
        got = ("-", None, 0, 0)
    else:
        name = found.rule.name if found.rule else "-"
        got = (name, found.address, found.source_port, found.port)
        assert not found.countable or found.address not in FORGED
    assert got == (line.rule, line.address, line.source_port, line.port)


@pytest.mark.parametrize("line", [line for line in LINES if "/" in (line.app_name or "")], ids=lambda line: line.where)
def test_corpus_with_names_cut_at_the_slash(line: Line) -> None:
    """As rsyslog writes APP-NAME in RSYSLOG_SyslogProtocol23Format: postfix for postfix/smtpd."""
    test_corpus(line._replace(app_name=line.app_name.partition("/")[0]))


@pytest.mark.parametrize(
    "frame",
    [
        "<38>Nov 20 10:00:00 web1 {0}[77]: {1}",
        "<38>Nov 20 10:00:00 web1 {0}: {1}",
        "<38>2026-11-20T10:00:00.123456+00:00 web1 {0}[77]: {1}",
        "<38>1 2026-11-20T10:00:00.123456+00:00 web1 {0} 77 - - {1}",
        "<38>Nov 20 10:00:00 Forwarded from web1: {0}[77]: {1}",
    ],
)
def test_corpus_as_it_arrives(frame: str) -> None:
    # A syslog header takes one blank before the message.
    lines = [line for line in LINES if line.app_name and not line.msg.startswith(" ")]
    frames = "\n".join(frame.format(line.app_name, line.msg) for line in lines)
    batch = Batch(1, 1_795_168_800 * SECOND, Origin("192.0.2.1", "udp"), frames.encode(), len(lines))
    records = parsing.parse(batch, timezone=UTC, max_clock_skew=300 * SECOND)
    for line, found in zip(lines, rules().match(records), strict=True):
        got = (found.rule.name if found and found.rule else "-", found.address if found else None)
        assert got == (line.rule, line.address), line.where


def test_corpus_is_whole() -> None:
    assert len(CORPUS) >= 10
    assert len(LINES) >= 500


@pytest.mark.parametrize(
    ("section", "failures"),
    [
        ("One failed password.", 1),
        ("One failed password of an unknown user.", 1),
        ("One failed keyboard-interactive login.", 1),
        ("One failed keyboard-interactive login of an unknown user.", 1),
        ("Keys only: nothing failed that counts, but the connections end without a login.", 0),
        ("DenyUsers.", 1),
        ("A login and a logout.", 0),
        ("MaxAuthTries: six passwords in one connection.", 6),
        ("One connection with a wrong password; with auth_verbose; with PAM.", 1),
    ],
)
def test_one_attempt_is_one_failure(section: str, failures: int) -> None:
    lines = [line for line in LINES if line.section == section]
    found = rules().match([record(line.app_name, line.msg) for line in lines])
    assert lines
    assert sum(each.times for each in found if each and each.rule and "auth-failure" in each.rule.tags) == failures


def test_a_connection_without_a_login_ends_once() -> None:
    for section, times in (
        ("One failed password of an unknown user.", 1),
        ("MaxAuthTries: six passwords in one connection.", 1),
        ("Keys only: nothing failed that counts, but the connections end without a login.", 4),
        ("A login and a logout.", 0),
    ):
        lines = [line for line in LINES if line.section == section]
        found = rules().match([record(line.app_name, line.msg) for line in lines])
        assert sum("auth-probe" in each.rule.tags for each in found if each and each.rule) == times


def test_every_rule_is_in_the_corpus() -> None:
    assert {rule.name for rule in rules().rules} - {line.rule for line in LINES} == set()


def test_every_rule_that_reads_free_text_is_attacked() -> None:
    attacked = {line.rule for line in LINES if any(address in line.msg for address in FORGED)}
    for text in rules().texts:
        examples = [*text.examples, *text.ignores]
        if any(address in each.msg for each in examples for address in FORGED):
            attacked.add(text.rule.name)
    wanted = {
        text.rule.name
        for text in rules().texts
        if any(free(pattern.tree) and columns(pattern.tree, "ip") for pattern in text.patterns)
    }
    assert wanted - attacked == set()


def test_tags_are_documented() -> None:
    guide = (ROOT / "docs" / "rules.md").read_text()
    table = guide.partition("### The tags of the shipped rules")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
    assert {tag for rule in rules().rules for tag in rule.tags} == documented


def test_what_is_well_does_not_count() -> None:
    well = {
        "auth-success", "http-access", "session", "mail-connection", "mail-deferred", "tcp-access", "ftp-activity",
        "firewall-accept", "firewall-out", "auth-error", "http-server-error", "disconnect", "privileged-command",
    }  # fmt: skip
    for rule in rules().rules:
        if rule.tags & well:
            assert rule.severity == "info", rule.name


def test_failures_have_an_address() -> None:
    for text in rules().texts:
        if "auth-failure" in text.rule.tags:
            assert all(columns(pattern.tree, "ip") for pattern in text.patterns), text.rule.name
            assert text.rule.severity == "medium"
            assert "T1110" in text.rule.attack
        assert text.description, text.rule.name


def test_nothing_of_known_programs_is_left_to_the_endpoint_grammar() -> None:
    last = rules().rules[-1]
    assert last.name == "rest"
    for rule in rules().rules:
        for name in rule.app_name:
            assert any(fits(glob, name) for glob in last.app_name), name


def test_reference_reads_the_corpus_alike() -> None:
    for text in rules().texts:
        # One rule's at a time: the parsers of all rules together are half a gigabyte.
        parsers = [(compile(pattern.tree), reference(pattern.tree)) for pattern in text.patterns]
        for line in LINES:
            if line.rule == text.rule.name:
                msg, _ = unwrap(line.msg)
                for compiled, parser in parsers:
                    assert parser.match(msg) == compiled.match(msg), line.where
