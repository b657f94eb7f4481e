"""The two back ends of a rule's pattern, made from one syntax tree: a pyparsing parser and a regular expression.

The pyparsing parser is the reference: ``logguardctl explain`` and the tests use it. The daemon runs the regular
expression. Both match whole messages and give equal values; a property test holds them to it.

A pattern that has free text before its address claims no message of more than MOST octets: programs and relays cut long
messages, and a sender of free text could have the cut fall where the address that he wrote is the last one left.

How a pattern matches: parts in order; an optional part is tried present first, alternatives in the order written; closed
tokens take all they can; free text takes as little as lets the rest match up to the message's end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyparsing as pp

from logguardd.grammar.addresses import exact, first_of, literal, normal
from logguardd.grammar.cut import MOST, short
from logguardd.grammar.language import parse
from logguardd.grammar.patterns import Choice, Literal, Optional, Sequence, Token, Until
from logguardd.grammar.structure import cut_matters
from logguardd.grammar.tokens import atomic, element, expression, movable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logguardd.grammar.patterns import Node

__all__ = ["MOST", "Compiled", "Reference", "compile", "expression_of", "parse", "reference", "short", "value"]


def value(name: str, text: str) -> str:
    """Return the value of a token from its text: addresses normalised, quotes and brackets taken off."""
    match name:
        case "ip" | "dip":
            return normal(text)
        case "quoted" | "time":
            return text[1:-1]
        case "proto":
            return text.lower()
        case _:
            return text


@dataclass(frozen=True, slots=True)
class Expression:
    """The regular expression of one pattern, anchored at its end only, and the field of each of its groups in order.

    A group without a field belongs to the expression itself. ``short``: only messages that are ``short`` are claimed.
    """

    text: str
    fields: tuple[str | None, ...]
    short: bool


def expression_of(tree: Sequence, label: str = "a") -> Expression:
    """Return the regular expression of a pattern, for re.DOTALL; the names of its groups begin with ``label``."""
    writer = _Writer(label)
    return Expression(writer.sequence(tree) + r"\Z", tuple(writer.fields), cut_matters(tree))


class _Writer:
    """Writes a tree as a regular expression and keeps the list of its groups."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.fields: list[str | None] = []

    def sequence(self, nodes: Sequence) -> str:
        return "".join(self._node(node) for node in nodes)

    def _node(self, node: Node) -> str:
        match node:
            case Literal(text=text):
                return re.escape(text)
            case Until(token=token, body=body):
                name = self._private()
                return atomic(self._token(token) + self.sequence(body), name)
            case Token():
                return self._token(node)
            case Optional(body=body):
                return f"(?:{self.sequence(body)})?"
            case Choice(alternatives=alternatives):
                return f"(?:{'|'.join(self.sequence(body) for body in alternatives)})"

    def _token(self, token: Token) -> str:
        kind = token.kind
        if kind.field:
            self.fields.append(kind.field)
        if kind.free:
            text = f".{{0,{kind.most}}}?"
        elif kind.name == "prefix":
            text = f"[^=]{{0,{kind.most}}}?"
        elif movable(token):
            name = self._private()
            text = atomic(expression(token), name)
        else:
            text = expression(token)
        return f"({text})" if kind.field else text

    def _private(self) -> str:
        self.fields.append(None)
        return f"{self._label}_{len(self.fields)}"


class Compiled:
    """The regular expression back end of one pattern."""

    def __init__(self, tree: Sequence) -> None:
        """Compile the tree."""
        made = expression_of(tree)
        self._fields = made.fields
        self._short = made.short
        self._match = re.compile(made.text, re.DOTALL).match

    def match(self, message: str) -> Mapping[str, str] | None:
        """Return the values by field of records.Match (address, source_port, port, protocol, user), or None."""
        found = None if self._short and not short(message) else self._match(message)
        if found is None:
            return None
        pairs = zip(self._fields, found.groups(), strict=True)
        return {field: _field(field, text) for field, text in pairs if field and text is not None}


def _field(field: str, text: str) -> str:
    return value({"address": "ip", "protocol": "proto"}.get(field, ""), text)


def compile(tree: Sequence) -> Compiled:  # noqa: A001 - the agreed name
    """Return the regular expression back end of a pattern."""
    return Compiled(tree)


class Reference:
    """The pyparsing back end of one pattern."""

    def __init__(self, tree: Sequence) -> None:
        """Build the parser."""
        parser = _continue(tree, exact(pp.StringEnd()))
        if cut_matters(tree):
            uncut = exact(pp.Empty()).add_condition(lambda message, *_: short(message), call_during_try=True)
            parser = exact(pp.And([uncut, parser]))
        self._parser = parser.parse_with_tabs()

    def match(self, message: str) -> Mapping[str, str] | None:
        """Return the values by field, as Compiled.match does."""
        found = self.tokens(message)
        return None if isinstance(found, int) else {token.kind.field: text for token, text in found if token.kind.field}

    def tokens(self, message: str) -> list[tuple[Token, str]] | int:
        """Return every token of the pattern with its value, in order; or how far the pattern matched, in characters."""
        try:
            return list(self._parser.parse_string(message))
        except pp.ParseException as error:
            return error.loc


def reference(tree: Sequence) -> Reference:
    """Return the pyparsing back end of a pattern."""
    return Reference(tree)


def _continue(nodes: Sequence, rest: pp.ParserElement) -> pp.ParserElement:
    """Return a parser of the parts and then ``rest``: an optional part may give way to what comes after it."""
    for node in reversed(nodes):
        match node:
            case Literal(text=text):
                rest = exact(pp.And([literal(text).suppress(), rest]))
            case Until(token=token, body=body):
                rest = exact(pp.And([_skip(token, _continue(body, exact(pp.Empty()))), rest]))
            case Token(kind=kind) if kind.free or kind.name == "prefix":
                rest = _skip(node, rest)
            case Token():
                rest = exact(pp.And([_closed(node), rest]))
            case Optional(body=body):
                rest = first_of(_continue(body, rest), rest)
            case Choice(alternatives=alternatives):
                rest = first_of(*(_continue(body, rest) for body in alternatives))
    return rest


def _closed(token: Token) -> pp.ParserElement:
    found = exact(pp.And([element(token)]))
    return found.set_parse_action(lambda tokens: (token, value(token.kind.name, tokens[0] if tokens else "")))


def _skip(token: Token, target: pp.ParserElement) -> pp.ParserElement:
    """Return free text up to the first place where ``target`` matches, and the target."""
    kind = token.kind

    def check(message: str, place: int, tokens: pp.ParseResults) -> list[object]:
        text = tokens[0]
        if len(text) > kind.most or (kind.name == "prefix" and "=" in text):
            raise pp.ParseException(message, place, f"<{kind.name}> ends here at the latest")
        return [(token, text), *tokens[1:]]

    return exact(pp.SkipTo(target, include=True)).set_parse_action(check, call_during_try=True)
