"""Proof that a pattern takes the address that the program wrote, whatever an attacker put into the message's free text.

A pattern loads only if no message whatever can be read by it in two ways with different text for the address, or with an
address in one and none in the other. Then the reading that the program meant, which is one of them, and the one that
the matcher finds agree. Two automata of the pattern run side by side over all messages; that takes milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from logguardd.grammar.automaton import BEGIN, INSIDE, NOTHING, Automaton

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


#: Two automata at the same character: their states, and whether a character of one's address was no such in the other.
_Place: TypeAlias = tuple[int, int, bool]
#: How a place was reached: from where, by which characters, and what they belong to in each automaton.
_Step: TypeAlias = tuple[_Place | None, int, int, int]


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
    """Walk all pairs of states that some message leads to, nearest first; ``both``: what differs either way counts."""
    start: _Place = (0, 0, False)
    seen: dict[_Place, _Step] = {start: (None, 0, NOTHING, NOTHING)}
    places = [start]
    # The list grows while it is walked.
    for place in places:
        here, there, differs = place
        if differs and one.final[here] and other.final[there]:
            return _witness(place, seen)
        theirs = other.moves[there]
        for characters, target, part in one.moves[here]:
            for also, goal, their_part in theirs:
                common = characters & also
                if not common:
                    continue
                apart = differs
                if not apart and part != their_part:
                    apart = (their_part == NOTHING and (part == BEGIN or (both and part == INSIDE))) or (
                        both and part == NOTHING and their_part >= BEGIN
                    )
                after = (target, goal, apart)
                if after not in seen:
                    seen[after] = (place, common, part, their_part)
                    places.append(after)
    return None


def _witness(place: _Place, seen: dict[_Place, _Step]) -> Conflict:
    steps = []
    before, *step = seen[place]
    while before is not None:
        steps.append(step)
        before, *step = seen[before]
    steps.reverse()
    message = "".join(_readable(characters) for characters, *_ in steps)

    def reading(which: int) -> Reading:
        places = [place for place, step in enumerate(steps) if step[1 + which] >= BEGIN]
        return Reading(places[0] + 1, message[places[0] : places[-1] + 1]) if places else Reading(0, "")

    return Conflict(message, reading(0), reading(1))


def _readable(characters: int) -> str:
    for character in _READABLE:
        if characters >> ord(character) & 1:
            return character
    lowest = (characters & -characters).bit_length() - 1
    return chr(lowest) if lowest < 128 else "é"  # noqa: PLR2004
