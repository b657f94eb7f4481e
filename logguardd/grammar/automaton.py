"""Patterns as nondeterministic automata, for proofs about every message at once (proof.py).

An automaton accepts every message that its pattern matches and, where a token's rules are simplified here, some more:
what holds for it holds for the pattern.

A set of characters is an integer with one bit a character: ASCII, and bit 128 for all others.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, NamedTuple

from logguardd.grammar.patterns import Choice, Literal, Optional, Token, Until

if TYPE_CHECKING:
    from logguardd.grammar.patterns import Sequence

ANY = (1 << 129) - 1

#: What a character belongs to: nothing of interest, a host name (which may stand where an address could), the address,
#: whose first character is told apart.
NOTHING, HOST, BEGIN, INSIDE = 0, 1, 2, 3


def characters(text: str) -> int:
    """Return the set of the characters of a text."""
    found = 0
    for character in text:
        found |= 1 << min(ord(character), 128)
    return found


_DIGITS = characters(string.digits)
_HEX = characters(string.hexdigits)
_ALNUM = characters(string.digits + string.ascii_letters)
_BLANK = characters(" \t")
_HOST = _ALNUM | characters("_.:%-")
_KEY = _ALNUM | characters("_()[]-")


class Transition(NamedTuple):
    """Characters that lead to a state, and what they belong to."""

    characters: int
    target: int
    part: int = NOTHING


class Automaton:
    """The automaton of one pattern; state 0 is the first."""

    def __init__(self, tree: Sequence) -> None:
        """Build it."""
        self._steps: list[list[Transition]] = [[]]
        self._empty: list[list[int]] = [[]]
        end = self._sequence(tree, 0)
        closures = [self._closure(state) for state in range(len(self._steps))]
        #: The transitions out of each state, steps without a character followed.
        self.moves = [[move for each in closure for move in self._steps[each]] for closure in closures]
        #: Whether a message may end in each state.
        self.final = [end in closure for closure in closures]

    def _closure(self, state: int) -> set[int]:
        found, new = {state}, [state]
        while new:
            for each in self._empty[new.pop()]:
                if each not in found:
                    found.add(each)
                    new.append(each)
        return found

    def _state(self) -> int:
        self._steps.append([])
        self._empty.append([])
        return len(self._steps) - 1

    def _step(self, start: int, characters: int, part: int = NOTHING) -> int:
        state = self._state()
        self._steps[start].append(Transition(characters, state, part))
        return state

    def _loop(self, start: int, characters: int, part: int = NOTHING) -> int:
        """Any number of the characters."""
        state = self._state()
        self._empty[start].append(state)
        self._steps[state].append(Transition(characters, state, part))
        return state

    def _run(self, start: int, characters: int, part: int = NOTHING) -> int:
        """One or more of the characters."""
        return self._loop(self._step(start, characters, part), characters, INSIDE if part == BEGIN else part)

    def _join(self, *states: int) -> int:
        state = self._state()
        for each in states:
            self._empty[each].append(state)
        return state

    def _text(self, start: int, text: str) -> int:
        for character in text:
            start = self._step(start, characters(character))
        return start

    def _sequence(self, nodes: Sequence, start: int) -> int:
        for node in nodes:
            match node:
                case Literal(text=text):
                    start = self._text(start, text)
                case Token():
                    start = self._token(node, start)
                case Until(token=token, body=body):
                    start = self._sequence(body, self._token(token, start))
                case Optional(body=body):
                    start = self._join(start, self._sequence(body, start))
                case Choice(alternatives=alternatives):
                    start = self._join(*(self._sequence(body, start) for body in alternatives))
        return start

    def _token(self, token: Token, start: int) -> int:  # noqa: C901, PLR0911, PLR0912 - one line for each kind
        stop = characters(token.follow.characters)
        match token.kind.name:
            case "user" | "text":
                return self._loop(start, ANY)
            case "prefix":
                return self._loop(start, ANY & ~characters("="))
            case "ip":
                return self._address(token, start, BEGIN)
            case "dip":
                return self._address(token, start, NOTHING)
            case "word" | "name":
                return self._run(start, ANY & ~_BLANK & ~stop)
            case "host":
                return self._run(start, _HOST & ~stop, HOST)
            case "proto":
                return self._run(start, (_ALNUM | characters("-")) & ~stop)
            case "port" | "dport" | "status":
                return self._run(start, _DIGITS)
            case "int":
                return self._run(self._join(start, self._text(start, "-")), _DIGITS)
            case "hex":
                return self._run(start, _HEX | characters("xX"))
            case "quoted":
                return self._quoted(start)
            case "time":
                return self._text(self._loop(self._text(start, "["), ANY & ~characters("[]")), "]")
            case _:
                return self._fields(token, start)

    def _address(self, token: Token, start: int, begin: int) -> int:
        """IPv4, IPv6, or IPv6 in brackets."""
        inside = INSIDE if begin == BEGIN else NOTHING
        ends = [self._ipv4(start, begin, inside), self._zoned(start, begin, inside)]
        if not token.bracketed:
            closed = self._zoned(self._step(start, characters("["), begin), inside, inside)
            ends.append(self._step(closed, characters("]"), inside))
        return self._join(*ends)

    def _ipv4(self, start: int, begin: int, inside: int) -> int:
        """Four numbers of any length."""
        end = self._run(start, _DIGITS, begin)
        for _ in range(3):
            end = self._run(self._step(end, characters("."), inside), _DIGITS, inside)
        return end

    def _zoned(self, start: int, begin: int, inside: int) -> int:
        end = self._ipv6(start, begin, inside)
        return self._join(end, self._run(self._step(end, characters("%"), inside), _ALNUM | characters("_.-"), inside))

    def _ipv6(self, start: int, begin: int, inside: int) -> int:
        """Eight groups, or any number around one ``::``; the last two may be IPv4; groups of any length."""
        colon = characters(":")
        group = self._run(start, _HEX, begin)
        ends = []
        for number in range(2, 9):
            after = self._step(group, colon, inside)
            if number == 7:  # noqa: PLR2004 - six groups and IPv4
                ends.append(self._ipv4(after, inside, inside))
            group = self._run(after, _HEX, inside)
        ends.append(group)
        left = self._step(self._groups(start, begin, inside), colon, inside)
        double = self._step(self._join(left, self._step(start, colon, begin)), colon, inside)
        right = self._groups(double, inside, inside)
        last = self._ipv4(self._join(double, self._step(right, colon, inside)), inside, inside)
        return self._join(*ends, double, right, last)

    def _groups(self, start: int, begin: int, inside: int) -> int:
        """One or more groups with colons between them."""
        end = self._join(self._run(start, _HEX, begin))
        self._empty[self._run(self._step(end, characters(":"), inside), _HEX, inside)].append(end)
        return end

    def _quoted(self, start: int) -> int:
        inside = self._loop(self._text(start, '"'), ANY & ~characters('"\\'))
        self._empty[self._step(self._text(inside, "\\"), ANY)].append(inside)
        return self._text(inside, '"')

    def _fields(self, token: Token, start: int) -> int:
        """KEY[=VALUE] items, each with blanks after it; none begins with a literal text that ends the fields."""
        equals = characters("=")
        begin = self._join(start)
        key = self._state()
        self._steps[key].append(Transition(_KEY, key))
        value = self._loop(self._step(key, equals), ANY & ~_BLANK)
        item = self._join(key, value)
        blank = self._loop(self._step(item, characters(" ")), characters(" "))
        self._empty[blank].append(begin)
        # Only literals that are nothing but a key are left out exactly; leaving out fewer is safe.
        stops = [text for text in token.follow.literals if text[:-1] and text.endswith("=") and _is_key(text[:-1])]
        self._first_of_item(begin, key, value, stops)
        return self._join(begin, item) if token.follow.end else begin

    def _first_of_item(self, begin: int, key: int, value: int, stops: list[str]) -> None:
        """Lead from ``begin`` into an item that does not begin with one of the texts, following them as a tree."""
        places = {"": begin}
        for text in sorted({stop[:end] for stop in stops for end in range(1, len(stop))}, key=len):
            places[text] = self._state()
        equals = characters("=")
        for text, state in places.items():
            on = 0
            for other, target in places.items():
                if other[:-1] == text and other:
                    on |= characters(other[-1])
                    self._steps[state].append(Transition(characters(other[-1]), target))
            self._steps[state].append(Transition(_KEY & ~on, key))
            if text:
                self._ends_item(state, begin)
                if f"{text}=" not in stops:
                    self._steps[state].append(Transition(equals, value))

    def _ends_item(self, state: int, begin: int) -> None:
        blank = self._loop(self._step(state, characters(" ")), characters(" "))
        self._empty[blank].append(begin)


def _is_key(text: str) -> bool:
    return all(ord(c) < 128 and characters(c) & _KEY for c in text)  # noqa: PLR2004
