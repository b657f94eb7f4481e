"""The compiled matcher: records to matches, a batch at a time.

The patterns that a message's app_name calls for are found once a name. Of these, a message is tried only against those
whose first characters it has: most messages meet no pattern at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from logguardd.grammar import MOST, expression_of, short
from logguardd.grammar.addresses import normal, special
from logguardd.grammar.endpoints import endpoints
from logguardd.grammar.patterns import Choice, Literal, Optional, Until
from logguardd.records import Match

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from logguardd.grammar.patterns import Sequence as Tree
    from logguardd.records import Record, Rule

#: Greatest n of "message repeated n times" that counts.
MOST_TIMES = 1_000_000
# Without the space where rsyslog got the message by RFC 5424.
_REPEATED = re.compile(r"message repeated ([0-9]{1,20}) times: \[ ?(.*)\]", re.DOTALL)

#: How many characters of a message choose its patterns, and how many heads a pattern may have.
_HEAD, _HEADS = 16, 32
#: app_names remembered at a time; hostile senders invent them.
_NAMES, _LONGEST_NAME, _TABLES = 4096, 256, 256


#: The fields of a match that tokens fill, in the order of Candidate.groups.
_FIELDS = ("address", "source_port", "port", "protocol", "user")


class Candidate(NamedTuple):
    """One compiled pattern of a rule.

    ``short``: it claims only messages that may not have been cut. ``needs`` is text that every message of it has, "" where
    its beginning already tells. ``groups`` are the group numbers of _FIELDS (for a field it lacks, of a group that never takes part); ``others``
    are further groups of the same fields, in alternatives.
    """

    rule: Rule
    match: Callable[[str], re.Match[str] | None]
    short: bool
    needs: str
    heads: frozenset[str]
    groups: tuple[int, ...]
    others: tuple[tuple[int, int], ...]


class Table(NamedTuple):
    """Candidates by the first characters of a message; ``lengths`` are those of the keys, longest first."""

    lengths: tuple[int, ...]
    candidates: dict[str, tuple[Candidate, ...]]


def unwrap(message: str) -> tuple[str, int]:
    """Return the text of rsyslog's "message repeated N times: [ TEXT]" and N (at most MOST_TIMES), or the message and 1."""
    if message.startswith("message repeated ") and (found := _REPEATED.fullmatch(message)):
        return found[2], max(1, min(int(found[1]), MOST_TIMES))
    return message, 1


def applies(rule: Rule, app_name: str | None) -> bool:
    """Whether the rule looks at messages of this program: an equal name, or a glob in which * is any text."""
    if not rule.app_name:
        return True
    return app_name is not None and any(fits(glob, app_name) for glob in rule.app_name)


def fits(glob: str, name: str) -> bool:
    """Whether a name is the glob, or what it stands for with any texts for its stars."""
    if "*" not in glob:
        return glob == name
    start, *middle, end = glob.split("*")
    if len(name) < len(start) + len(end) or not name.startswith(start) or not name.endswith(end):
        return False
    place, last = len(start), len(name) - len(end)
    for part in middle:
        place = name.find(part, place, last)
        if place < 0:
            return False
        place += len(part)
    return True


def heads(tree: Tree, length: int = _HEAD) -> frozenset[str]:
    """Return texts of at most ``length`` characters of which every message of the pattern begins with one."""
    growing, done = _grow(tree, frozenset({""}), length)
    found = growing | done
    return found if len(found) <= _HEADS else heads(tree, length // 2)


def _grow(nodes: Tree, growing: frozenset[str], length: int) -> tuple[frozenset[str], frozenset[str]]:
    """Return the heads that what follows the parts may still lengthen, and those that are final."""
    done: frozenset[str] = frozenset()
    for node in nodes:
        final: frozenset[str] = frozenset()
        match node:
            case Literal(text=text):
                growing = frozenset(head + text for head in growing)
            case Optional(body=body):
                longer, final = _grow(body, growing, length)
                growing |= longer
            case Choice(alternatives=alternatives):
                made = [_grow(body, growing, length) for body in alternatives]
                growing = frozenset().union(*(more for more, _ in made))
                final = frozenset().union(*(some for _, some in made))
            case _:
                growing, final = frozenset(), growing
        long = frozenset(head for head in growing if len(head) >= length)
        done |= final | frozenset(head[:length] for head in long)
        growing -= long
    return growing, done


def candidate(rule: Rule, tree: Tree) -> Candidate:
    """Compile one pattern of a rule."""
    made = expression_of(tree)
    never = len(made.fields) + 1
    groups = [never] * len(_FIELDS)
    others = []
    for number, name in enumerate(made.fields, 1):
        if name is not None:
            field = _FIELDS.index(name)
            if groups[field] == never:
                groups[field] = number
            else:
                others.append((field, number))
    expression = re.compile(made.text + "(?:(?!)())?", re.DOTALL)
    starts = heads(tree)
    needs = _longest_literal(tree) if "" in starts else ""
    return Candidate(rule, expression.match, made.short, needs, starts, tuple(groups), tuple(others))


def _longest_literal(tree: Tree) -> str:
    """Return the longest text that stands in every message of a pattern."""
    texts = [""]
    for node in tree:
        if isinstance(node, Literal):
            texts.append(node.text)
        elif isinstance(node, Until):
            texts.append(_longest_literal(node.body))
    return max(texts, key=len)


def table(candidates: Sequence[Candidate]) -> Table:
    """Arrange candidates, which are in the order of their rules."""
    keys = frozenset().union(*(each.heads for each in candidates)) if candidates else frozenset()
    chosen = {
        key: tuple(each for each in candidates if any(key.startswith(head) for head in each.heads)) for key in keys
    }
    return Table(tuple(sorted({len(key) for key in keys}, reverse=True)), chosen)


class Matcher:
    """All rules, compiled. Not safe for threads: it remembers the tables of the app_names it has met."""

    def __init__(self, patterns: Sequence[tuple[Rule, Tree]]) -> None:
        """Compile (rule, pattern) pairs, in the order in which they are tried."""
        self._candidates = tuple(candidate(rule, tree) for rule, tree in patterns)
        groups: dict[tuple[str, ...], tuple[Rule, list[int]]] = {}
        for number, each in enumerate(self._candidates):
            groups.setdefault(each.rule.app_name, (each.rule, []))[1].append(number)
        #: A rule of each list of app_names, and the numbers of all candidates with that list.
        self._groups = tuple(groups.values())
        self._by_name: dict[str | None, Table] = {}
        self._by_rules: dict[tuple[int, ...], Table] = {}

    def match(self, records: Sequence[Record]) -> list[Match | None]:
        """Return for each record what the first matching pattern or else the endpoint grammar finds in it, or None."""
        by_name = self._by_name
        found: list[Match | None] = []
        append = found.append
        for record in records:
            message = record[8]
            times = 1
            if message.startswith("message repeated "):
                message, times = unwrap(message)
            known = by_name.get(record[4])
            if known is None:
                known = self._table(record[4])
            lengths, tables = known
            for length in lengths:
                candidates = tables.get(message[:length])
                if candidates is not None:
                    for each in candidates:
                        if (each.short and len(message) > MOST) or each.needs not in message:
                            continue
                        match = each.match(message)
                        if match is not None and (not each.short or short(message)):
                            break
                    else:
                        continue
                    append(_result(each, match, times))
                    break
            else:
                append(endpoints(message, times))
        return found

    def claims(self, rule: Rule, record: Record) -> bool:
        """Whether the rule would claim the record if it were the only one."""
        message, _ = unwrap(record.msg)
        return applies(rule, record.app_name) and any(
            each.match(message) and not (each.short and not short(message))
            for each in self._candidates
            if each.rule is rule
        )

    def _table(self, name: str | None) -> Table:
        """Find the table of an app_name; tables are shared by all names that the same rules apply to."""
        chosen = tuple(sorted(i for rule, numbers in self._groups if applies(rule, name) for i in numbers))
        made = self._by_rules.get(chosen)
        if made is None:
            if len(self._by_rules) >= _TABLES:
                self._by_rules.clear()
            made = self._by_rules[chosen] = table([self._candidates[i] for i in chosen])
        if name is None or len(name) <= _LONGEST_NAME:
            if len(self._by_name) >= _NAMES:
                self._by_name.clear()
            self._by_name[name] = made
        return made


def _result(each: Candidate, match: re.Match[str], times: int) -> Match:
    """Return what a pattern found."""
    address, source_port, port, protocol, user = match.group(*each.groups)
    if each.others:
        values = [address, source_port, port, protocol, user]
        for field, number in each.others:
            if values[field] is None:
                values[field] = match[number]
        address, source_port, port, protocol, user = values
    rule = each.rule
    countable = False
    if address is not None:
        if ":" in address:
            address = normal(address)
        countable = not special(address)
    return Match(
        rule,
        address,
        int(source_port) if source_port else 0,
        int(port) if port else rule.port,
        protocol.lower() if protocol else None,
        user,
        countable,
        times,
    )
