"""Proof that a pattern takes the address that the program wrote, whatever an attacker put into the message's free text.

A pattern loads only if no message whatever can be read by it in two ways with different text for the address, or with an
address in one and none in the other. Then the reading that the program meant, which is one of them, and the one that
the matcher finds agree. Two automata of the pattern run side by side over all messages; that takes milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from logguardd.automaton import BEGIN, INSIDE, NOTHING, Automaton

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters that make a readable counterexample, best first.
_READABLE = "x19:. =,;[]()\"'-_/ABCabcdef"


class Reading(NamedTuple):
    """Where a reading of a message takes the address from: the column (from 1) and the text, or 0 and "" for nowhere."""

    column: int
    address: str

    def __str__(self) -> str:
        return f"the address {self.address!r} at column {self.column}" if self.column else "no address"


class Conflict(NamedTuple):
    """A message with two readings."""

    message: str
    one: Reading
    other: Reading


class _Place(NamedTuple):
    """Two automata at the same character: their states, and whether a character of one's address was no such in the other."""

    one: int
    other: int
    differs: bool


class _Step(NamedTuple):
    """How a place was reached: from where, by which characters, and what they belong to in each automaton."""

    before: _Place | None
    characters: int
    parts: tuple[int, int]


def ambiguity(automaton: Automaton) -> Conflict | None:
    """Return a message that the pattern can read with two addresses, or with one and none; None if there is no such one."""
    return _search(automaton, automaton, both=True)


def forgery(earlier: Automaton, later: Automaton) -> Conflict | None:
    """Return a message of the later pattern that the earlier one claims, with an address where the later has none.

    That is a message that the program wrote in the later form, and whose free text an attacker shaped to look like the
    earlier form. None if there is no such message.
    """
    return _search(earlier, later, both=False)


def _search(one: Automaton, other: Automaton, *, both: bool) -> Conflict | None:
    start = _Place(0, 0, differs=False)
    seen: dict[_Place, _Step] = {start: _Step(None, 0, (NOTHING, NOTHING))}
    new = [start]
    while new:
        reached = []
        for place in new:
            if place.differs and one.final[place.one] and other.final[place.other]:
                return _witness(place, seen)
            for after, step in _moves(one, other, place, both=both):
                if after not in seen:
                    seen[after] = step
                    reached.append(after)
        new = reached
    return None


def _moves(one: Automaton, other: Automaton, place: _Place, *, both: bool) -> Iterator[tuple[_Place, _Step]]:
    theirs = other.moves[place.other]
    for characters, target, part in one.moves[place.one]:
        for also, goal, their_part in theirs:
            if common := characters & also:
                differs = (
                    place.differs
                    or (their_part == NOTHING and (part == BEGIN or (both and part == INSIDE)))
                    or (both and part == NOTHING and their_part >= BEGIN)
                )
                yield _Place(target, goal, differs), _Step(place, common, (part, their_part))


def _witness(place: _Place, seen: dict[_Place, _Step]) -> Conflict:
    steps = []
    step = seen[place]
    while step.before is not None:
        steps.append(step)
        step = seen[step.before]
    steps.reverse()
    message = "".join(_readable(step.characters) for step in steps)

    def reading(which: int) -> Reading:
        places = [place for place, step in enumerate(steps) if step.parts[which] >= BEGIN]
        return Reading(places[0] + 1, message[places[0] : places[-1] + 1]) if places else Reading(0, "")

    return Conflict(message, reading(0), reading(1))


def _readable(characters: int) -> str:
    for character in _READABLE:
        if characters >> ord(character) & 1:
            return character
    lowest = (characters & -characters).bit_length() - 1
    return chr(lowest) if lowest < 128 else "é"  # noqa: PLR2004
