"""Why a message is matched as it is: every pattern that was tried, by the pyparsing reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from logguardd.grammar import MOST, reference, short
from logguardd.grammar.addresses import special
from logguardd.grammar.endpoint_reference import endpoints
from logguardd.grammar.structure import cut_matters
from logguardd.records import Match
from logguardd.rules.matcher import applies, heads, unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logguardd.grammar import Reference
    from logguardd.grammar.patterns import Sequence as Tree
    from logguardd.records import Record, Rule
    from logguardd.rules.rulefile import Pattern, RuleText


@dataclass(frozen=True, slots=True)
class Tried:
    """One pattern tried on a message.

    ``values`` are the tokens with their values, in order, where it matched. Otherwise ``reached`` is how many characters
    of the message it fits (up to where free text begins, if what must follow the free text is missing) and ``reason``
    says why it does not match.
    """

    rule: str
    pattern: str
    matched: bool
    values: tuple[tuple[str, str], ...] = ()
    reached: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a message came to its match.

    ``message`` is the text that was tried: without rsyslog's "message repeated" around it. ``tried`` ends with the pattern
    that claimed it, if one did. ``match`` equals what RuleSet.match gives; with no rule in it, it is the endpoint grammar's.
    """

    app_name: str | None
    message: str
    tried: tuple[Tried, ...]
    match: Match | None


def explain(texts: Sequence[RuleText], record: Record) -> Explanation:
    """Try the rules on a record in order, with the pyparsing reference, up to the first that claims it."""
    message, times = unwrap(record.msg)
    tried = []
    for text in texts:
        if not applies(text.rule, record.app_name):
            continue
        for pattern in text.patterns:
            one, values = try_pattern(text.rule.name, pattern, message)
            tried.append(one)
            if values is not None:
                match = _match(text.rule, values, times)
                return Explanation(record.app_name, message, tuple(tried), match)
    return Explanation(record.app_name, message, tuple(tried), endpoints(message, times))


def try_pattern(rule: str, pattern: Pattern, message: str) -> tuple[Tried, Mapping[str, str] | None]:
    """Try one pattern; return what came of it and, where it matched, the values by field of records.Match."""
    if cut_matters(pattern.tree) and not short(message):
        reason = (
            f"the message has more than {MOST} octets: it may have been cut, and what clients write stands before <ip>"
        )
        return Tried(rule, pattern.text, matched=False, reason=reason), None
    # A parser takes milliseconds to build: not for messages that do not even begin as the pattern does.
    starts = heads(pattern.tree)
    if not any(message.startswith(start) for start in starts):
        reached = max(_common(start, message) for start in starts)
        return Tried(rule, pattern.text, matched=False, reached=reached, reason=_stop(message, reached)), None
    found = _reference(pattern.tree).tokens(message)
    if isinstance(found, int):
        return Tried(rule, pattern.text, matched=False, reached=found, reason=_stop(message, found)), None
    values = tuple((token.kind.name, value) for token, value in found)
    fields = {token.kind.field: value for token, value in found if token.kind.field}
    return Tried(rule, pattern.text, matched=True, values=values, reached=len(message)), fields


@lru_cache(maxsize=64)
def _reference(tree: Tree) -> Reference:
    return reference(tree)


def _common(one: str, other: str) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _stop(message: str, reached: int) -> str:
    rest = message[reached : reached + 24]
    return f"fits up to column {reached + 1}, {rest!r}" if rest else "the message ends too early"


def _match(rule: Rule, values: Mapping[str, str], times: int) -> Match:
    address = values.get("address")
    return Match(
        rule=rule,
        address=address,
        source_port=int(values.get("source_port", 0)),
        port=int(values.get("port", rule.port)),
        protocol=values.get("protocol"),
        user=values.get("user"),
        countable=address is not None and not special(address),
        times=times,
    )
