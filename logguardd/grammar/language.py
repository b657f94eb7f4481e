r"""The pattern language of rule files, in pyparsing, and what must hold for a pattern to load.

Literal text; ``<name>`` tokens; ``[optional part]``, which may nest; ``(one|of|several)``; a backslash before
``[ ] ( ) < > |`` or a backslash makes that character literal. docs/rules.md explains the language to its users.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import NoReturn

import pyparsing as pp

from logguardd.errors import RuleError
from logguardd.grammar.addresses import exact, first_of, literal
from logguardd.grammar.automaton import Automaton
from logguardd.grammar.patterns import KINDS, Choice, Literal, Optional, Sequence, Token
from logguardd.grammar.proof import ambiguity
from logguardd.grammar.structure import PatternError, columns, link

_SPECIAL = "[]()<>|\\"
_LONGEST = 2048
_DEEPEST = 16


def parse(pattern: str, where: str = "pattern") -> Sequence:
    """Read a pattern and return its syntax tree, checked and linked (see structure.py).

    Raises errors.RuleError, ``WHERE, column N: what is wrong; what is allowed``, for anything that cannot be used.
    """
    try:
        if not pattern or len(pattern) > _LONGEST:
            _refuse(1, f"the pattern has {len(pattern)} characters; 1 to {_LONGEST} are allowed")
        if not pattern.isprintable():
            column = next(i for i, c in enumerate(pattern, 1) if not c.isprintable())
            _refuse(column, "a control character cannot stand in a pattern")
        _check_depth(pattern)
        try:
            tree: Sequence = _language().parse_string(pattern, parse_all=True)[0]
        except pp.ParseBaseException as error:
            _explain(pattern, error.loc)
        linked = link(tree)
        if places := columns(linked, "ip"):
            _prove(linked, places[0])
    except PatternError as error:
        raise RuleError(f"{where}, column {error.column}: {error.reason}") from None
    return linked


def _prove(tree: Sequence, column: int) -> None:
    conflict = ambiguity(Automaton(tree))
    if conflict is None:
        return
    advice = "what stands around <ip> must not fit into the text and optional parts beside it"
    if conflict.one.column == conflict.other.column:
        advice = "what follows <ip> could be part of an IPv6 address; write a pattern for each form instead of an optional part"
    _refuse(
        column,
        f"<ip> could be forged: the message {conflict.message!r} can be read with {conflict.one} or with "
        f"{conflict.other}; {advice}",
    )


@cache
def _language() -> pp.ParserElement:
    """Build the parser of the language; it returns one Sequence of which no token is linked yet."""
    plain = exact(pp.CharsNotIn(_SPECIAL))
    escape = exact(literal("\\") - exact(pp.Char(_SPECIAL)))
    escape.set_parse_action(lambda tokens: tokens[1])
    text = exact(pp.OneOrMore(first_of(plain, escape)))
    text.set_parse_action(lambda _, place, tokens: Literal("".join(tokens), place + 1))

    token = exact(literal("<") - exact(pp.one_of(list(KINDS))) - literal(">"))
    token.set_parse_action(lambda _, place, tokens: Token(KINDS[tokens[1]], place + 1))

    sequence = pp.Forward()
    optional = exact(literal("[") - sequence - literal("]"))
    optional.set_parse_action(lambda _, place, tokens: Optional(tokens[1], place + 1))
    more = exact(pp.ZeroOrMore(exact(literal("|").suppress() - sequence)))
    choice = exact(literal("(") - sequence - more - literal(")"))
    choice.set_parse_action(lambda _, place, tokens: Choice(tuple(tokens[1:-1]), place + 1))

    parts = exact(pp.OneOrMore(first_of(text, token, optional, choice)))
    parts.set_parse_action(lambda tokens: tuple(tokens))  # noqa: PLW0108 - pyparsing looks at the signature
    sequence <<= parts
    exact(sequence)
    whole = exact(sequence - exact(pp.StringEnd()))
    whole.parse_with_tabs()
    return whole


def _refuse(column: int, reason: str) -> NoReturn:
    raise PatternError(column, reason)


def _check_depth(pattern: str) -> None:
    """Refuse deep nesting before the recursive parser meets it."""
    depth, escaped = 0, False
    for column, character in enumerate(pattern, 1):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "[(":
            depth += 1
            if depth > _DEEPEST:
                _refuse(column, f"parts are nested deeper than {_DEEPEST}")
        elif character in "])":
            depth -= 1


def _explain(pattern: str, place: int) -> NoReturn:
    """Say what is wrong with the pattern at ``place``, where pyparsing stopped."""
    here, before = pattern[place : place + 1], pattern[:place]
    escapes = "; to mean the character itself write a backslash before it"
    if opened := re.search(r"(?<!\\)<([^<>]*)$", before):
        name, closed, _ = (opened[1] + pattern[place:]).partition(">")
        if not closed and name in KINDS:
            _refuse(place + 1, f"the pattern ends before <{name} is closed by >{escapes}")
        name = name[:32]
        near = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean <{near[0]}>? There" if near else "there"
        _refuse(opened.start() + 1, f"no token is called <{name}>; {hint} are {', '.join(KINDS)}{escapes}")
    if before.endswith("\\") or here == "\\":
        _refuse(place + 1, f"a backslash stands only before one of {' '.join(_SPECIAL)}")
    if not here:
        _refuse(place + 1, f"the pattern ends before a [, ( or < is closed{escapes}")
    if here in "])>|":
        _refuse(
            place + 1, f"{here} stands where it cannot: nothing is open there, or it would leave a part empty{escapes}"
        )
    _refuse(place + 1, f"{here} is not understood here{escapes}")
