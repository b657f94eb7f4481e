"""Hypothesis strategies: patterns of the pattern language, and messages in the form of a pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from logguardd.grammar.patterns import Choice, Literal, Optional, Token, Until

if TYPE_CHECKING:
    from logguardd.grammar.patterns import Sequence

IPV4 = st.ip_addresses(v=4).map(str) | st.sampled_from(["9.9.9.9", "0.0.0.0", "255.255.255.255"])
IPV6 = st.ip_addresses(v=6).map(str) | st.sampled_from(
    [
        "::1",
        "::",
        "1::",
        "::ffff:198.51.100.7",
        "2001:db8::1:2",
        "fe80::1%eth0",
        "2001:DB8:0:0:0:0:0:1",
        "1:2:3:4:5:6:7:8",
    ]
)
IP = IPV4 | IPV6 | IPV6.map("[{}]".format)
_LETTERS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
_ANY = st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=("Cs",)), max_size=12)
_FIELD = st.sampled_from(["LEN=60 ", "DF ", "MAC= ", "PROTO=TCP ", "ID=0  ", "OPT (0204) ", "[SRC=1.2.3.4 ", "] "])

_VALUES = {
    "ip": IP,
    "dip": IP,
    "host": st.sampled_from(["mail.example", "unknown", "1.2.3.4.example", "a_b-c", "x%y"]),
    "port": st.integers(0, 65535).map(str) | st.sampled_from(["65536", "022", "0"]),
    "dport": st.integers(0, 65535).map(str),
    "proto": st.sampled_from(["TCP", "udp", "ICMPv6", "47"]),
    "name": _LETTERS,
    "word": _LETTERS,
    "int": st.integers(-9, 10**21).map(str),
    "hex": st.sampled_from(["0", "0x1F", "dead", "0x", "0Xg", "xyz"]),
    "status": st.sampled_from(["200", "404", "99", "1000"]),
    "quoted": _ANY.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"') | st.just('"a"b"'),
    "time": st.just("[20/Nov/2026:10:00:00 +0100]") | _ANY.map("[{}]".format),
    "prefix": st.sampled_from(["", "[UFW BLOCK] ", "[12.5] fw: ", "a=b ", "x" * 65]),
    "fields": st.lists(_FIELD, max_size=4).map("".join),
}


class Written(NamedTuple):
    """A message made from a pattern, and the address that stands for <ip> in it."""

    text: str
    address: str | None


def literals(tree: Sequence) -> list[str]:
    """Return the literal texts of a pattern."""
    found: list[str] = []
    for node in tree:
        match node:
            case Literal(text=text):
                found.append(text)
            case Optional(body=body) | Until(body=body):
                found += literals(body)
            case Choice(alternatives=alternatives):
                for body in alternatives:
                    found += literals(body)
    return found


def _write(draw: st.DrawFn, nodes: Sequence, free: st.SearchStrategy[str]) -> Written:
    text, address = "", None
    for node in nodes:
        match node:
            case Literal():
                one = Written(node.text, None)
            case Token(kind=kind) if kind.free:
                one = Written(draw(free), None)
            case Token(kind=kind):
                value = draw(_VALUES[kind.name])
                if kind.name in {"word", "name", "host", "proto"}:
                    value = "".join(c for c in value if c not in node.follow.characters) or "x"
                one = Written(value, value if kind.name == "ip" else None)
            case Until(token=token, body=body):
                one = _write(draw, (token, *body), free)
            case Optional(body=body):
                one = _write(draw, body if draw(st.booleans()) else (), free)
            case Choice(alternatives=alternatives):
                one = _write(draw, draw(st.sampled_from(alternatives)), free)
        text, address = text + one.text, one.address or address
    return Written(text, address)


@st.composite
def written(draw: st.DrawFn, tree: Sequence) -> Written:
    """Draw a message in the form of a pattern. Its free text imitates the pattern: it is pieces of such messages."""
    words = st.sampled_from(literals(tree) or [""]) | IP | st.integers(0, 99999).map(str) | _ANY
    pieces = st.lists(words, max_size=7).map("".join)
    imitated = _write(draw, tree, st.sampled_from(["", "x", " "])).text
    cuts = st.integers(0, len(imitated)).map(lambda place: imitated[place:]) | st.integers(0, len(imitated)).map(
        lambda place: imitated[:place]
    )
    return _write(draw, tree, pieces | cuts | st.tuples(pieces, cuts).map("".join))


@st.composite
def disturbed(draw: st.DrawFn, tree: Sequence) -> str:
    """Draw a message of a pattern as it is, with something changed in it, or two of them joined."""
    text = draw(written(tree)).text
    match draw(st.integers(0, 5)):
        case 0:
            text += draw(written(tree)).text
        case 1:
            place = draw(st.integers(0, len(text)))
            text = text[:place] + draw(_ANY | st.sampled_from([" ", "x", "1", ".", ":", "]", '"'])) + text[place:]
        case 2:
            place = draw(st.integers(0, len(text)))
            text = text[:place] + text[place + draw(st.integers(1, 3)) :]
        case 3:
            place, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
            text = text[:end] + text[place:]
    return text


_GLUE = st.sampled_from(
    [" ", " from ", ": ", ", ", "=", " port ", "\\[", "\\]", ".", " \\(", ":", "'", "#", " x", " for "]
)
_PART = (
    st.tuples(
        _GLUE, st.sampled_from([*(name for name in _VALUES if name != "ip"), "text", "user"]).map("<{}>".format)
    ).map("".join)
    | _GLUE
)


def _joined(parts: st.SearchStrategy[str], least: int = 1) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=least, max_size=4).map("".join)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    choice = st.lists(_joined(inner), min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
    return _joined(inner).map("[{}]".format) | choice


_PARTS = st.recursive(_PART, _nested, max_leaves=4)
#: Texts of patterns with an address in them or not, many of which load.
patterns = st.tuples(_joined(_PARTS, 0), _GLUE | st.just(""), st.sampled_from(["<ip>", ""]), _joined(_PARTS, 0)).map(
    "".join
)
_CLOSED = st.sampled_from([" x", "[ x]", " <word>", "[ <word>]", "( x| y)", " <host>", "[ <host>]", "[:<port>]"])
_CLOSED_PARTS = st.lists(_CLOSED, max_size=3).map("".join)
_FREE = st.sampled_from(["<user>", "[<user>]", " <text>", "[ <text>]", "( x <text>| y)"])
#: Texts of patterns with an address and free text beside it, of few and like parts: many could be forged.
free_patterns = st.tuples(
    _CLOSED_PARTS, _FREE, _CLOSED_PARTS, st.sampled_from([" <ip>", "[ <ip>]"]), _CLOSED_PARTS
).map("".join) | st.tuples(_CLOSED_PARTS, st.just(" <ip>"), _CLOSED_PARTS, _FREE, _CLOSED_PARTS).map("".join)
