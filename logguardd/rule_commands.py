"""logguardctl explain and test-rules: rules tried without a daemon."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from logguardd import config, parsing, preflight, rules, tables
from logguardd.detection import ENDPOINT, Detector
from logguardd.errors import ConfigError
from logguardd.jails import counts
from logguardd.notation import printable, zone
from logguardd.records import Batch, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from logguardd.config.settings import Config
    from logguardd.records import Match, Record
    from logguardd.rules import RuleSet
    from logguardd.rules.explanation import Explanation, Tried
    from logguardd.rules.rulefile import Example

#: Who is said to have sent a line that is explained, unless the line names its host.
_PEER = "127.0.0.1"
_SHOWN = 5


def load(settings: Config, files: Sequence[str] = ()) -> RuleSet:
    """Load the configuration's rules, or those of ``files`` (and folders); raise ConfigError with a line an error."""
    if not files:
        return preflight.load_rules(settings)[0]
    texts = config.read_rules(files)
    try:
        return rules.load(texts, settings.detection.services)
    except ConfigError as error:
        raise ConfigError("\n".join(map(printable, str(error).split("\n")))) from None


def explain(
    settings: Config, files: Sequence[str], app_name: str | None, message: str | None, *, as_json: bool
) -> None:
    """Explain one message, or each line of standard input."""
    loaded = load(settings, files)
    console = tables.console()
    first = True
    for line in [message] if message is not None else _lines():
        record = rules.record(app_name, line) if app_name is not None else _read(settings, line)
        found = loaded.explain(record)
        content = _explained(settings, record, found)
        if as_json:
            click.echo(json.dumps(content))
            continue
        if not first:
            console.print()
        _show(console, content, found)
        first = False


def _lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        text = line.decode(errors="backslashreplace").rstrip("\r\n")
        if text:
            yield text


def _read(settings: Config, line: str) -> Record:
    """Read a whole syslog line as the daemon would."""
    now = time.time_ns() // 1000
    batch = Batch(1, now, Origin(_PEER, "udp"), line.replace("\n", "#012").encode(errors="backslashreplace"), 1)
    skew = settings.detection.max_clock_skew
    return parsing.parse(batch, timezone=zone(settings.listen.timezone), max_clock_skew=skew)[0]


def _explained(settings: Config, record: Record, found: Explanation) -> dict[str, object]:
    match = found.match
    return {
        "app_name": found.app_name,
        "message": found.message,
        "parse_error": record.parse_error,
        "match": None if match is None else _match(match),
        "jails": _jails(settings, record, match),
        "tried": [_tried(one) for one in found.tried],
    }


def _match(match: Match) -> dict[str, object]:
    rule = match.rule
    return {
        "rule": None if rule is None else rule.name,
        "tags": [] if rule is None else sorted(rule.tags),
        "severity": None if rule is None else rule.severity,
        "attack": [] if rule is None else list(rule.attack),
        "address": match.address,
        "source_port": match.source_port,
        "port": match.port,
        "protocol": match.protocol,
        "user": match.user,
        "times": match.times,
        "countable": match.countable,
    }


def _jails(settings: Config, record: Record, match: Match | None) -> list[str]:
    """Return the names of the jails that count the message."""
    jails = preflight.jails(settings)
    batch = Batch(1, 0, Origin(_PEER, "udp"), record.raw.encode(errors="backslashreplace"), 1)
    hits = Detector(counts(jails)).hits(batch, [record], [match])
    return [jail.name for jail in jails if any(jail.counts(hit.rule, hit.tags, hit.severity) for hit in hits)]


def _tried(one: Tried) -> dict[str, object]:
    return {
        "rule": one.rule,
        "pattern": one.pattern,
        "matched": one.matched,
        "values": [list(pair) for pair in one.values],
        "reached": one.reached,
        "reason": one.reason,
    }


def _show(console: Console, content: Mapping[str, object], found: Explanation) -> None:
    rows: list[tuple[str, object]] = [("app_name", found.app_name or "-"), ("message", found.message)]
    if content["parse_error"]:
        rows.append(("not syslog", content["parse_error"]))
    match = found.match
    claimed = found.tried[-1] if found.tried and found.tried[-1].matched else None
    if claimed is not None and match is not None and match.rule is not None:
        about = [match.rule.severity, *sorted(match.rule.tags), *match.rule.attack]
        rows.append(("rule", f"{claimed.rule} ({', '.join(about)})"))
        rows.append(("pattern", claimed.pattern))
        rows += [(f"<{name}>", value) for name, value in claimed.values]
    elif match is not None:
        rows.append(("rule", f"none; the endpoint grammar found this (as a hit: {ENDPOINT})"))
    else:
        rows.append(("rule", "none, and no address stands in it"))
    if match is not None:
        rows.append(("address", f"{match.address or '-'}{'' if match.countable else ' (does not count)'}"))
        rows += [
            (name, str(value))
            for name, value in (
                ("source port", match.source_port),
                ("port", match.port or "unknown: all ports"),
                ("protocol", match.protocol),
                ("user", match.user),
                ("times", match.times if match.times > 1 else None),
            )
            if value
        ]
    rows.append(("jails", content["jails"] or "none counts it"))
    console.print(tables.table(("", ""), rows, header=False))
    if claimed is None and found.tried:
        nearest = sorted(found.tried, key=lambda one: -one.reached)[:_SHOWN]
        title = f"Patterns that come furthest, of {len(found.tried)} for this program:"
        lines = [(one.rule, one.pattern, one.reason) for one in nearest]
        console.print(tables.table(("rule", "pattern", "why not"), lines, title=title))


def test_rules(settings: Config, files: Sequence[str], *, verbose: bool, as_json: bool) -> None:
    """Load rules, which runs their examples, and show them; with ``verbose`` what each example matched."""
    loaded = load(settings, files)
    content = [
        {
            "rule": text.rule.name,
            "where": text.where,
            "app_name": list(text.rule.app_name),
            "service": text.rule.service,
            "port": text.rule.port,
            "severity": text.rule.severity,
            "tags": sorted(text.rule.tags),
            "patterns": [pattern.text for pattern in text.patterns],
            "examples": [_example(loaded, each) for each in text.examples],
            "ignored": [{"app_name": each.app_name, "msg": each.msg} for each in text.ignores],
        }
        for text in loaded.texts
    ]
    if as_json:
        click.echo(json.dumps({"rules": content}, indent=2))
        return
    console = tables.console()
    rows = [
        (
            text.rule.name, ", ".join(text.rule.app_name) or "any", text.rule.severity, sorted(text.rule.tags),
            len(text.patterns), len(text.examples), len(text.ignores),
        )
        for text in loaded.texts
    ]  # fmt: skip
    console.print(tables.table(("rule", "program", "severity", "tags", "patterns", "match", "ignored"), rows))
    if verbose:
        for text in loaded.texts:
            found = [_example(loaded, each) for each in text.examples]
            lines = [
                (each["msg"], each["address"] or "-", str(each["port"] or "-"), each["user"] or "-") for each in found
            ]
            lines += [(each.msg, "ignored", "", "") for each in text.ignores]
            console.print(tables.table(("message", "address", "port", "user"), lines, title=text.rule.name))
    examples = sum(len(text.examples) + len(text.ignores) for text in loaded.texts)
    click.echo(f"OK: {len(loaded.texts)} rules, {examples} examples")


def _example(loaded: RuleSet, example: Example) -> dict[str, object]:
    (match,) = loaded.match([rules.record(example.app_name, example.msg)])
    found = {} if match is None else _match(match)
    kept = {key: found.get(key) for key in ("address", "source_port", "port", "protocol", "user", "times", "countable")}
    return {"app_name": example.app_name, "msg": example.msg, **kept}
