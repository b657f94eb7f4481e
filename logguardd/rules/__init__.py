"""The rule set: rule files loaded and tried, messages matched and explained.

docs/rules.md explains rule files to those who write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from logguardd.errors import RuleError
from logguardd.records import Record
from logguardd.rules.crossing import crossing
from logguardd.rules.explanation import Explanation, explain, try_pattern
from logguardd.rules.matcher import Matcher, applies, unwrap
from logguardd.rules.rulefile import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from logguardd.records import Match, Rule
    from logguardd.rules.rulefile import Example, RuleText


class RuleSet:
    """Rules in the order in which they are tried: a message belongs to the first rule that claims it."""

    def __init__(self, texts: Sequence[RuleText]) -> None:
        """Compile the rules; ``load`` is how to make one from files."""
        self.texts = tuple(texts)
        self.rules: tuple[Rule, ...] = tuple(text.rule for text in texts)
        self._matcher = Matcher([(text.rule, pattern.tree) for text in texts for pattern in text.patterns])

    def match(self, records: Sequence[Record]) -> list[Match | None]:
        """Return for each record what the rules or else the endpoint grammar find in it; None: no address stands there."""
        return self._matcher.match(records)

    def claims(self, rule: Rule, record: Record) -> bool:
        """Whether ``rule``, one of ``rules``, would claim the record if no other rule stood before it."""
        return self._matcher.claims(rule, record)

    def explain(self, record: Record) -> Explanation:
        """Return how the record came to its match, found with the pyparsing reference; takes milliseconds a pattern."""
        return explain(self.texts, record)


class Examined(NamedTuple):
    """What rule files hold: the rules that can be tried, what is wrong (a line each), every name and tag.

    ``names`` is None where a mistake may hide one.
    """

    rules: RuleSet
    errors: list[str]
    names: frozenset[str] | None


def load(files: Sequence[tuple[str, str]], services: Mapping[str, int] | None = None) -> RuleSet:
    """Load rule files, given as (file name, TOML text), in that order, and run every example and ignore in them.

    ``services`` adds destination ports by name. Raises errors.RuleError, a line for everything that is wrong, with file,
    line, rule and, where there is one, column.
    """
    rules, errors, _ = examine(files, services or {})
    if errors:
        raise RuleError("\n".join(errors))
    return rules


def examine(files: Sequence[tuple[str, str]], services: Mapping[str, int] | None) -> Examined:
    """Find everything that is wrong with rule files; as ``load``, but ``services`` None takes every service's name."""
    texts: dict[str, RuleText] = {}
    errors: list[str] = []
    names: frozenset[str] | None = frozenset()
    places: dict[str, str] = {}
    for file, text in files:
        found = read(file, text, services)
        errors += found.errors
        names = None if names is None or found.names is None else names | found.names
        for name, where in found.places:
            if name in places:
                errors.append(f"{where}: name: {name} is taken by the rule at {places[name]}; names are unique")
            places.setdefault(name, where.rpartition(",")[0])
        for each in found.rules:
            # A second one of a name would not get the first one's messages, which is no mistake of its own.
            texts.setdefault(each.rule.name, each)
    if reason := crossing(list(texts.values())):
        errors.append(reason)
    rules = RuleSet(list(texts.values()))
    for each in rules.texts:
        errors += [reason for example in each.examples if (reason := _wrong_example(rules, each, example))]
        errors += [
            f"{ignored.where}: the rule claims this message, but must not"
            for ignored in each.ignores
            if rules.claims(each.rule, record(ignored.app_name, ignored.msg))
        ]
    return Examined(rules, [" ".join(each.splitlines()) for each in errors], names)


def record(app_name: str | None, msg: str) -> Record:
    """Return a record that holds nothing but a program's name and its message."""
    return Record(1, 5, 0, None, app_name, None, None, None, msg, None, msg)


def _wrong_example(rules: RuleSet, text: RuleText, example: Example) -> str | None:
    (found,) = rules.match([record(example.app_name, example.msg)])
    if found is None or found.rule is not text.rule:
        if not applies(text.rule, example.app_name):
            reason = f"app_name {example.app_name!r} is not among this rule's"
        elif found is not None and found.rule is not None and found.rule in rules.rules[: rules.rules.index(text.rule)]:
            reason = f"is claimed by rule {found.rule.name}, which stands before this one"
        else:
            reason = f"matches no pattern of this rule; {_furthest(text, example.msg)}"
        return f"{example.where}: {reason}"
    for name, wanted in example.expect.items():
        value = getattr(found, name)
        if value != wanted or type(value) is not type(wanted):
            return f"{example.where}: {name} is {value!r} in the match; the example says {wanted!r}"
    return None


def _furthest(text: RuleText, msg: str) -> str:
    msg, _ = unwrap(msg)
    tried = [try_pattern(text.rule.name, pattern, msg)[0] for pattern in text.patterns]
    number, best = max(enumerate(tried, 1), key=lambda each: each[1].reached)
    return f"match {number}: {best.reason}"
