"""What must hold for a pattern to load, apart from the proof: order of tokens, and what may follow each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from logguardd.grammar.patterns import Choice, Follow, Literal, Optional, Token, Until

if TYPE_CHECKING:
    from logguardd.grammar.patterns import Node, Sequence

_END = Follow(end=True)
#: Tokens whose first character is known, so that they may follow a closed token.
_OPENING = {"quoted": '"', "time": "["}
#: Closed tokens that may stand for what a client wrote.
_CLIENTS = frozenset({"name", "word", "quoted"})


class PatternError(Exception):
    """A pattern cannot be used: the column (from 1) and the reason."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def link(tree: Sequence) -> Sequence:
    """Check a freshly parsed tree and return it with every token's ``follow`` set and free text committed (Until).

    Raises PatternError.
    """
    _orders(tree)
    _check_fields(tree)
    _check_cost(tree)
    return _link(tree, _END, later=False, certain=False, bracketed=False)


def free(nodes: Sequence) -> bool:
    """Whether free text may stand in the parts."""
    return any(
        node.kind.free if isinstance(node, Token) else any(free(body) for body in _bodies(node)) for node in nodes
    )


def columns(nodes: Sequence, name: str) -> list[int]:
    """Return the columns at which tokens of that name stand."""
    found: list[int] = []
    for node in nodes:
        if isinstance(node, Token) and node.kind.name == name:
            found.append(node.column)
        for body in _bodies(node):
            found += columns(body, name)
    return found


def _certain(nodes: Sequence) -> bool:
    """Whether free text stands in the parts in every case."""
    return any(
        node.kind.free
        if isinstance(node, Token)
        else isinstance(node, Choice) and all(_certain(body) for body in node.alternatives)
        for node in nodes
    )


def _bodies(node: Node) -> tuple[Sequence, ...]:
    match node:
        case Optional(body=body) | Until(body=body):
            return (body,)
        case Choice(alternatives=alternatives):
            return alternatives
        case _:
            return ()


def first(nodes: Sequence, after: Follow) -> Follow:
    """Return what may stand first in the parts, which ``after`` follows."""
    for node in reversed(nodes):
        match node:
            case Literal(text=text):
                after = Follow(literals=frozenset({text}))
            case Token(kind=kind):
                opening = _OPENING.get(kind.name)
                after = Follow(literals=frozenset({opening})) if opening else Follow(tokens=frozenset({kind.name}))
            case Until(token=token):
                after = Follow(tokens=frozenset({token.kind.name}))
            case Optional(body=body):
                after = _union(first(body, after), after)
            case Choice(alternatives=alternatives):
                after = _union(*(first(body, after) for body in alternatives))
    return after


def _union(*follows: Follow) -> Follow:
    return Follow(
        frozenset().union(*(follow.literals for follow in follows)),
        any(follow.end for follow in follows),
        frozenset().union(*(follow.tokens for follow in follows)),
    )


def _link(nodes: Sequence, after: Follow, *, later: bool, certain: bool, bracketed: bool) -> Sequence:
    """Link parts. ``later``/``certain``: free text may/must stand after them; ``bracketed``: a [ stands before them."""
    done: list[Node] = []
    place = 0
    while place < len(nodes):
        node, rest = nodes[place], nodes[place + 1 :]
        follow = first(rest, after)
        more, sure = later or free(rest), certain or _certain(rest)
        place += 1
        match node:
            case Token(kind=kind) if kind.free:
                token = replace(node, follow=follow)
                _check_free(token)
                if not more:
                    done.append(token)
                else:
                    if not sure:
                        _fail(
                            token,
                            "is followed by free text that may be missing; write two patterns, with and without it",
                        )
                    body = rest[: next((i for i, part in enumerate(rest) if free((part,))), len(rest))]
                    if not body or not any(isinstance(part, Literal) for part in body):
                        _fail(token, "is followed by more free text with no literal text between them in the same part")
                    end = first(rest[len(body) :], after)
                    done.append(Until(token, _link(body, end, later=False, certain=False, bracketed=False)))
                    place += len(body)
            case Token():
                token = replace(node, follow=follow, bracketed=bracketed)
                _check_closed(token)
                done.append(token)
            case Optional(body=body, column=column):
                inner = _link(body, follow, later=more, certain=sure, bracketed=bracketed)
                done.append(Optional(inner, column))
            case Choice(alternatives=alternatives, column=column):
                linked = tuple(
                    _link(body, follow, later=more, certain=sure, bracketed=bracketed) for body in alternatives
                )
                done.append(Choice(linked, column))
            case _:
                done.append(node)
        bracketed = isinstance(node, Literal) and node.text.endswith("[")
    return tuple(done)


def _fail(token: Token, reason: str) -> None:
    raise PatternError(token.column, f"<{token.kind.name}> {reason}")


def _check_free(token: Token) -> None:
    if token.follow.tokens:
        names = " or ".join(f"<{name}>" for name in sorted(token.follow.tokens))
        _fail(token, f"is directly followed by {names}; free text needs literal text or the pattern's end after it")


def _check_closed(token: Token) -> None:
    """Refuse what would leave a closed token without a clear end."""
    name, follow = token.kind.name, token.follow
    if token.kind.selfdelimiting:
        return
    if follow.tokens:
        names = " or ".join(f"<{other}>" for other in sorted(follow.tokens))
        hint = "; a literal bracket is written \\[" if follow.tokens & {"ip", "dip", "host"} else ""
        _fail(token, f"is directly followed by {names}; literal text must stand between them{hint}")
    if name in {"ip", "dip"} and any(c.isalnum() or c == "_" for c in follow.characters):
        _fail(token, "is directly followed by a letter or digit; an address ends before other characters only")
    if name == "prefix" and "=" in follow.characters:
        _fail(token, "is directly followed by =, which it cannot contain; write the key between them")


def cut_matters(tree: Sequence) -> bool:
    """Whether a message that lost its end could be read with an address that somebody else wrote.

    So it is where free text may stand before <ip>; and where one of _CLIENTS does, unless free text ends the pattern: then
    the whole message would have matched as well.
    """
    return "free ip" in _orders(tree) or (_client_before_address(tree) and not _ends_free(tree))


def _client_before_address(nodes: Sequence) -> bool:
    """Whether one of _CLIENTS may stand before <ip>, in the parts or before them."""

    def walk(nodes: Sequence, states: frozenset[str]) -> frozenset[str]:
        for node in nodes:
            match node:
                case Token(kind=kind) if kind.name in _CLIENTS:
                    states = frozenset({"none": "client"}.get(state, state) for state in states)
                case Token(kind=kind) if kind.name == "ip":
                    states = frozenset({"none": "ip", "client": "client ip"}.get(state, state) for state in states)
                case Optional(body=body):
                    states |= walk(body, states)
                case Choice(alternatives=alternatives):
                    states = frozenset().union(*(walk(body, states) for body in alternatives))
                case Until(token=token, body=body):
                    states = walk((token, *body), states)
        return states

    return "client ip" in walk(nodes, frozenset({"none"}))


def _ends_free(nodes: Sequence) -> bool:
    """Whether the parts end with free text in every case."""
    match nodes[-1] if nodes else None:
        case Token(kind=kind):
            return kind.free
        case Until(body=body):
            return _ends_free(body)
        case Choice(alternatives=alternatives):
            return all(_ends_free(body) for body in alternatives)
        case _:
            return False


def _orders(tree: Sequence) -> frozenset[str]:
    """Return in which orders free text and <ip> may stand: none, free, ip, free ip, ip free.

    Free text on both sides of an address is refused: the sender of the text could write the address.
    """

    def walk(nodes: Sequence, states: frozenset[str]) -> frozenset[str]:
        for node in nodes:
            match node:
                case Token(kind=kind) if kind.free:
                    if "free ip" in states:
                        _fail(
                            node,
                            "stands after <ip>, and free text stands before it; an attacker could forge the address",
                        )
                    states = frozenset({"none": "free", "ip": "ip free"}.get(state, state) for state in states)
                case Token(kind=kind) if kind.name == "ip":
                    if states & {"ip", "free ip", "ip free"}:
                        _fail(node, "stands there a second time; other addresses are <dip> or <host>")
                    states = frozenset({"none": "ip", "free": "free ip"}[state] for state in states)
                case Optional(body=body):
                    states |= walk(body, states)
                case Choice(alternatives=alternatives):
                    states = frozenset().union(*(walk(body, states) for body in alternatives))
        return states

    return walk(tree, frozenset({"none"}))


def _check_cost(nodes: Sequence, *, after_free: bool = False) -> bool:
    """Refuse <fields> after free text: it would be looked for at every character, and may be long each time."""
    for node in nodes:
        match node:
            case Token(kind=kind):
                if after_free and kind.name == "fields":
                    _fail(node, "stands after free text, which would take too long on hostile messages; use <text>")
                after_free |= kind.free
            case Optional(body=body):
                after_free |= _check_cost(body, after_free=after_free)
            case Choice(alternatives=alternatives):
                ends = [_check_cost(body, after_free=after_free) for body in alternatives]
                after_free = any(ends)
    return after_free


def _check_fields(tree: Sequence) -> None:
    """Refuse two tokens on one path that fill the same field."""

    def walk(nodes: Sequence, seen: frozenset[str]) -> frozenset[str]:
        for node in nodes:
            match node:
                case Token(kind=kind) if kind.field:
                    if kind.field in seen:
                        _fail(
                            node,
                            f"would fill {kind.field.replace('_', ' ')} a second time; use <word> or <text> for one",
                        )
                    seen |= {kind.field}
                case Optional(body=body):
                    seen |= walk(body, seen)
                case Choice(alternatives=alternatives):
                    seen = seen.union(*(walk(body, seen) for body in alternatives))
        return seen

    walk(tree, frozenset())
