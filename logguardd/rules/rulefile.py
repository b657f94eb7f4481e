"""Reading one rule file: TOML to rules, their patterns and examples, with every mistake named where it stands."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from logguardd.errors import RuleError
from logguardd.grammar import parse
from logguardd.records import Rule
from logguardd.rules.services import SERVICES
from logguardd.severity import RULE_SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from logguardd.grammar.patterns import Sequence as Tree

_T = TypeVar("_T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TECHNIQUE = re.compile(r"T[0-9]{4}(\.[0-9]{3})?")
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
#: Keys of a rule.
KEYS = ("name", "description", "app_name", "match", "service", "tags", "severity", "attack", "example", "ignore")
#: Keys of an example that is a table, and the field of a match whose value each states.
EXPECTED = ("address", "source_port", "port", "protocol", "user", "times")
_MOST = 256
# What stands in for what is wrong.
_NO_TEXTS: tuple[str, ...] = ()
_NO_TAGS: frozenset[str] = frozenset()
_NO_SERVICE: tuple[str | None, int | None] = (None, None)
_NOTHING: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A message that a rule must (or must not) claim; ``expect`` holds values that its match must have."""

    app_name: str | None
    msg: str
    where: str
    expect: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of a rule: its text as written, its tree and where it stands."""

    text: str
    tree: Tree
    where: str


@dataclass(frozen=True, slots=True)
class RuleText:
    """One ``[[rule]]``. ``where`` names file, line and rule for messages."""

    rule: Rule
    patterns: tuple[Pattern, ...]
    examples: tuple[Example, ...]
    ignores: tuple[Example, ...]
    where: str
    description: str = ""


class File(NamedTuple):
    """What stands in one rule file.

    ``rules`` are those that can be tried, in order, also when something is wrong with them that no pattern depends on;
    ``places`` holds name and place of every rule, ``errors`` what is wrong, a line each, ``names`` the names and tags of all
    rules, None if they cannot be known.
    """

    rules: list[RuleText]
    places: list[tuple[str, str]]
    errors: list[str]
    names: frozenset[str] | None


def read(file: str, text: str, services: Mapping[str, int] | None) -> File:
    """Return what stands in a rule file; ``services`` None takes every name of a service for right."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        return File([], [], [f"{file}: brackets are nested too deeply"], None)
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        return File([], [], [f"{file}: {_position(str(error), text)}"], None)
    errors = unknown_keys(file, table, ("rule",))
    rules = table.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(each, dict) for each in rules):
        return File([], [], [*errors, f"{file}: rule: must be written as [[rule]] before each rule's keys"], None)
    lines = [text.count("\n", 0, header.start()) + 1 for header in _HEADER.finditer(text)]
    found = []
    places = []
    names: frozenset[str] | None = None if errors else frozenset()
    for number, each in enumerate(rules):
        # A header inside a multi-line string would shift the lines: then none is better than a wrong one.
        place = f"{file}: line {lines[number]}" if len(lines) == len(rules) else f"{file}: rule {number + 1}"
        reader = _Reader(place, each, services)
        rule = reader.rule()
        errors += reader.errors
        if reader.name:
            places.append((reader.name, reader.where))
        if rule is not None:
            found.append(rule)
        names = None if names is None or reader.names is None else names | reader.names
    return File(found, places, errors, names)


def _position(message: str, text: str) -> str:
    """Reorder tomllib's "what (at line 1, column 2)" to "line 1, column 2: what"."""
    what, _, where = message.rpartition(" (at ")
    if not what:
        return f"not TOML: {message}"
    if where.startswith("end of"):
        last = text.rpartition("\n")
        where = f"line {text.count(chr(10)) + 1}, column {len(last[2]) + 1})"
    hint = "; patterns are easiest in single quotes, '...'" if "\\" in what else ""
    return f"{where.rstrip(')')}: not TOML: {what[0].lower()}{what[1:]}{hint}"


def unknown_keys(where: str, table: Mapping[str, object], allowed: Iterable[str]) -> list[str]:
    """Return what to say of each key that is not allowed, naming the nearest one that is."""
    allowed = tuple(allowed)
    errors = []
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(allowed)}"
            errors.append(f"{where}: {key}: unknown key; {hint}")
    return errors


class _Reader:
    """Reads one ``[[rule]]`` table; ``errors`` holds what is wrong with it.

    ``name`` is its name ("" if it has none), ``names`` that and its tags if they are known, ``where`` its place.
    """

    def __init__(self, place: str, table: Mapping[str, Any], services: Mapping[str, int] | None) -> None:
        self.errors: list[str] = []
        self.name = ""
        self.names: frozenset[str] | None = None
        self.where = place
        self._table = table
        self._services = None if services is None else {**SERVICES, **services}

    def rule(self) -> RuleText | None:
        """Check every key and return the rule, None if it cannot be tried."""
        self.name = name = self._try(self._own_name, "")
        self.where += f", rule {name}" if name else ""
        unknown = unknown_keys(self.where, self._table, KEYS)
        self.errors += unknown
        app_name = self._try(self._texts, None, "app_name")
        patterns = self._patterns()
        tags = self._try(self._tags, None)
        if not unknown:  # a key that is missing is misspelt, more often than not
            self._required()
            self.names = None if tags is None or not name else tags | {name}
        service, port = self._try(self._service, _NO_SERVICE)
        severity = self._try(self._severity, "")
        attack = self._try(self._attack, _NO_TEXTS)
        description = self._try(self._description, "")
        # Which port an example says that there is cannot be judged without that of the service.
        expected = tuple(each for each in EXPECTED if port is not None or each != "port")
        examples = self._examples("example", app_name or (), expected)
        ignores = self._examples("ignore", app_name or (), ())
        misspelt = unknown and "app_name" not in self._table
        if not (name and patterns) or app_name is None or misspelt:
            return None
        rule = Rule(
            name=name,
            app_name=app_name,
            tags=tags or _NO_TAGS,
            severity=severity,
            service=service,
            port=port or 0,
            attack=attack,
        )
        return RuleText(rule, patterns, examples, ignores, self.where, description)

    def _try(self, get: Callable[..., _T], otherwise: _T, *arguments: object) -> _T:
        try:
            return get(*arguments)
        except RuleError as error:
            self.errors.append(str(error))
            return otherwise

    def _required(self) -> None:
        for key, what in (
            ("name", "every rule needs a name of its own"),
            ("match", "a rule needs at least one pattern"),
            ("example", "a rule needs at least one message that it claims"),
        ):
            if key not in self._table or self._table[key] == []:
                self.errors.append(f"{self.where}: {key}: missing; {what}")

    def _own_name(self) -> str:
        return self._name("name", self._table["name"]) if "name" in self._table else ""

    def _patterns(self) -> tuple[Pattern, ...]:
        """Return the patterns, none if one of them is wrong: it may be the one that an example is for."""
        texts = self._try(self._texts, _NO_TEXTS, "match")
        found = []
        for number, text in enumerate(texts, 1):
            where = f"{self.where}: match {number}"
            tree = self._try(parse, None, text, where)
            if tree is not None:
                found.append(Pattern(text, tree, where))
        return tuple(found) if len(found) == len(texts) else ()

    def _tags(self) -> frozenset[str]:
        return frozenset(self._name("tags", tag) for tag in self._texts("tags"))

    def _severity(self) -> str:
        severity = self._table.get("severity", "medium")
        if severity not in RULE_SEVERITIES:
            self._fail("severity", f"{severity!r} is not a severity; allowed: {', '.join(RULE_SEVERITIES)}")
        return str(severity)

    def _attack(self) -> tuple[str, ...]:
        attack = self._texts("attack")
        for each in attack:
            if not _TECHNIQUE.fullmatch(each):
                self._fail("attack", f"{each!r} is not a MITRE ATT&CK technique; allowed: T1110 or T1110.001")
        return attack

    def _description(self) -> str:
        description = self._table.get("description", "")
        if not isinstance(description, str):
            self._fail("description", "must be a text")
        return description

    def _fail(self, key: str, reason: str) -> NoReturn:
        raise RuleError(f"{self.where}: {key}: {reason}")

    def _name(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            self._fail(
                key, f"{value!r} is not a name; allowed: up to 64 letters, digits, - _ and ., a letter or digit first"
            )
        return value

    def _list(self, key: str) -> tuple[Any, ...]:
        value = self._table.get(key, [])
        if not isinstance(value, list) or len(value) > _MOST:
            self._fail(key, f'must be a list of at most {_MOST}, for example ["text"]')
        return tuple(value)

    def _texts(self, key: str) -> tuple[str, ...]:
        values = self._list(key)
        for number, each in enumerate(values, 1):
            if not isinstance(each, str) or not each:
                self._fail(key, f"number {number} must be a text that is not empty")
        return values

    def _service(self) -> tuple[str | None, int | None]:  # noqa: RET503 - _fail never returns
        value = self._table.get("service")
        if value is None:
            return None, 0
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16:
            return None, value
        known = self._services
        if isinstance(value, str) and known is None:
            return value, None
        if isinstance(value, str) and known is not None and value in known:
            return value, known[value]
        near = difflib.get_close_matches(str(value), known or (), n=1)
        hint = f"did you mean {near[0]}? Otherwise" if near else "allowed: a service's name or"
        self._fail("service", f"{value!r} is not known; {hint} a port from 1 to 65535")

    def _examples(self, key: str, app_name: tuple[str, ...], expected: tuple[str, ...]) -> tuple[Example, ...]:
        # A glob stands for itself without its stars.
        program = app_name[0].replace("*", "") if app_name else None
        found = []
        for number, each in enumerate(self._try(self._list, _NOTHING, key), 1):
            where = f"{self.where}: {key} {number}"
            if isinstance(each, str):
                found.append(Example(program, each, where))
            elif isinstance(each, dict):
                wrong = unknown_keys(where, each, ("app_name", "msg", *(EXPECTED if key == "example" else ())))
                if not wrong and not (isinstance(each.get("msg"), str) and isinstance(each.get("app_name", ""), str)):
                    wrong.append(f"{where}: needs msg, and app_name must be a text")
                if wrong:
                    self.errors += wrong
                    continue
                expect = {name: each[name] for name in expected if name in each}
                found.append(Example(each.get("app_name", program), each["msg"], where, expect))
            else:
                self.errors.append(f"{where}: must be a message or a table with msg and what must be found in it")
        return tuple(found)
