"""The syntax tree of a rule's pattern, and the kinds of token that may stand in it (docs/rules.md explains them)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of token: its name, the field of a match that its value fills, and what text it stands for.

    ``most`` is the greatest length (0: as long as the message); ``free`` marks text that may hold anything, the pattern's own words included.
    ``selfdelimiting`` kinds know their own end, so that any token may follow at once.
    """

    name: str
    meaning: str
    most: int
    field: str | None = None
    free: bool = False
    selfdelimiting: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("ip", "the remote address", 80, field="address"),
        Kind("dip", "another address", 80),
        Kind("host", "a host name or an address that is not taken", 255),
        Kind("port", "the source port", 5, field="source_port"),
        Kind("dport", "the destination port", 5, field="port"),
        Kind("proto", "the protocol", 16, field="protocol"),
        Kind("name", "the user, without blanks", 1024, field="user"),
        Kind("word", "characters without blanks", 1024),
        Kind("int", "a whole number", 20),
        Kind("hex", "a hexadecimal number", 64),
        Kind("status", "three digits", 3),
        Kind("quoted", 'text in double quotes, \\" being a quote in it', 0, selfdelimiting=True),
        Kind("time", "a time in square brackets", 64, selfdelimiting=True),
        Kind("prefix", "a netfilter log prefix: no =", 64),
        Kind("fields", "KEY=VALUE words, each with the blank after it", 0),
        Kind("user", "the user, any text, also none", 1024, field="user", free=True),
        Kind("text", "any text, also none", 8192, free=True),
    )
}


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that stands in the message as it is."""

    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Follow:
    """What may stand right after a part: one of some literal texts, the end of the message, or a token."""

    literals: frozenset[str] = frozenset()
    end: bool = False
    tokens: frozenset[str] = frozenset()

    @property
    def characters(self) -> str:
        """The characters that may follow, in order."""
        return "".join(sorted({text[0] for text in self.literals}))


@dataclass(frozen=True, slots=True)
class Token:
    """A token. ``follow`` is what may stand after it, ``bracketed`` whether an opening bracket stands before it."""

    kind: Kind
    column: int
    follow: Follow = Follow(end=True)
    bracketed: bool = False


@dataclass(frozen=True, slots=True)
class Until:
    """Free text that ends at the first place where ``body`` matches, and then stays there.

    It stands for free text that more free text follows: what comes after ``body`` takes any text, so no later place
    could match where the first does not, and trying them would cost quadratic time.
    """

    token: Token
    body: Sequence


@dataclass(frozen=True, slots=True)
class Optional:
    """A part that may be missing; present is tried first."""

    body: Sequence
    column: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several parts, tried in order."""

    alternatives: tuple[Sequence, ...]
    column: int


Node: TypeAlias = Literal | Token | Until | Optional | Choice
Sequence: TypeAlias = tuple[Node, ...]
