"""What each closed token matches, side by side in the two back ends: a regular expression and a pyparsing element.

Both are deterministic: they take all that they can and never give any of it back, and words stop before the characters
that the pattern has after them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyparsing as pp

from logguardd.grammar.addresses import (
    IPV4,
    IPV6,
    IPV6_ALONE,
    ZONE,
    exact,
    first_of,
    ipv4_element,
    ipv6_element,
    joined,
    literal,
    maybe,
    no,
    run,
    zone_element,
)

if TYPE_CHECKING:
    from logguardd.grammar.patterns import Follow, Token

_BLANK = " \t"
_ALNUM = pp.alphanums
_HOST = _ALNUM + "_.:%-"
_PROTO = _ALNUM + "-"
_KEY = _ALNUM + "_()[]-"
_TO_65535 = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"


def _set(characters: str, without: str = "") -> str:
    return "[" + "".join(re.escape(c) for c in characters if c not in without) + "]"


def _ahead(follow: Follow) -> str:
    """Return a lookahead for what may stand after a token."""
    choices = ([_set(follow.characters)] if follow.literals else []) + ([r"\Z"] if follow.end else [])
    return f"(?={'|'.join(choices)})"


def atomic(text: str, label: str) -> str:
    """Return an expression that, once matched, is never tried another way; ``label`` must be unique.

    Python before 3.11.5 matches ``(?>...)`` and ``(...)*+`` wrongly where there is backtracking inside (gh-106052), so
    a lookahead, which is atomic, and a back-reference to what it saw stand for them. Possessive sets are sound.
    """
    return f"(?=(?P<{label}>{text}))(?P={label})"


def movable(token: Token) -> bool:
    """Whether the token's expression must be made atomic: an address that may be followed by what may stand in one."""
    return token.kind.name in {"ip", "dip"} and not set(token.follow.characters).isdisjoint(".:%")


def expression(token: Token) -> str:  # noqa: C901, PLR0911 - one line for each kind
    """Return the regular expression of a closed token, without a group."""
    kind, follow = token.kind, token.follow
    stop = follow.characters
    match kind.name:
        case "ip" | "dip":
            ahead = _ahead(follow)
            zone = f"(?:{ZONE}+)?"
            bracketed = "" if token.bracketed else rf"|\[{IPV6_ALONE}{zone}\]{ahead}"
            return f"(?:{IPV4}{ahead}|{IPV6 if movable(token) else IPV6_ALONE}{zone}{ahead}{bracketed})"
        case "word" | "name":
            return f"[^{re.escape(_BLANK + stop)}]{{1,{kind.most}}}+"
        case "host":
            return f"{_set(_HOST, stop)}{{1,{kind.most}}}+"
        case "proto":
            return f"{_set(_PROTO, stop)}{{1,{kind.most}}}+"
        case "port" | "dport":
            return f"{_TO_65535}(?![0-9])"
        case "int":
            return f"-?[0-9]{{1,{kind.most}}}+(?![0-9])"
        case "hex":
            digits = f"[0-9A-Fa-f]{{1,{kind.most}}}+"
            return f"(?:0[xX]{digits}|{digits})(?![0-9A-Za-z])"
        case "status":
            return "[0-9]{3}(?![0-9])"
        case "quoted":
            return r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
        case "time":
            return rf"\[[^\[\]]{{0,{kind.most}}}+\]"
        case _:
            # An item given back could only stand where one of the literals does.
            return rf"(?:(?!{_literals(follow)}){_set(_KEY)}++(?:=[^{_BLANK}]*+)?(?: ++|\Z))*"


def _literals(follow: Follow) -> str:
    return "|".join(re.escape(text) for text in sorted(follow.literals)) or "(?!)"


def element(token: Token) -> pp.ParserElement:  # noqa: C901, PLR0911 - one line for each kind
    """Return the pyparsing element of a closed token; it gives one string."""
    kind, follow = token.kind, token.follow
    stop = follow.characters
    match kind.name:
        case "ip" | "dip":
            return _address(token)
        case "word" | "name":
            return exact(pp.CharsNotIn(_BLANK + stop, max=kind.most))
        case "host":
            return exact(pp.Word(_HOST, max=kind.most, exclude_chars=stop))
        case "proto":
            return exact(pp.Word(_PROTO, max=kind.most, exclude_chars=stop))
        case "port" | "dport":
            number = run(pp.nums, kind.most)
            return number.add_condition(
                lambda tokens: int(tokens[0]) < 1 << 16 and str(int(tokens[0])) == tokens[0], call_during_try=True
            )
        case "int":
            return joined(maybe(literal("-")), run(pp.nums, kind.most))
        case "hex":
            x = exact(pp.one_of("0x 0X"))
            digits = joined(run(pp.hexnums, kind.most), no(_ALNUM))
            return first_of(joined(x, digits), digits)
        case "status":
            return joined(exact(pp.Word(pp.nums, exact=3)))
        case "quoted":
            return _quoted()
        case "time":
            inside = maybe(exact(pp.CharsNotIn("[]", max=kind.most)))
            return joined(literal("["), inside, literal("]"))
        case _:
            return _fields(follow)


def _address(token: Token) -> pp.ParserElement:
    follow = token.follow
    after = [exact(pp.FollowedBy(literal(c))) for c in follow.characters]
    if follow.end:
        after.append(exact(pp.FollowedBy(exact(pp.StringEnd()))))
    ahead = first_of(*after)
    zoned = [joined(form, maybe(zone_element()), ahead) for form in ipv6_element().exprs]  # type: ignore[attr-defined]
    forms = [joined(ipv4_element(), ahead), *zoned]
    if not token.bracketed:
        closed = [joined(form, maybe(zone_element())) for form in ipv6_element().exprs]  # type: ignore[attr-defined]
        forms += [joined(literal("["), form, literal("]"), ahead) for form in closed]
    return first_of(*forms)


def _quoted() -> pp.ParserElement:
    plain = exact(pp.CharsNotIn('"\\'))
    escaped = joined(literal("\\"), exact(pp.CharsNotIn("", exact=1)))
    return joined(literal('"'), exact(pp.ZeroOrMore(first_of(plain, escaped))), literal('"'))


def _fields(follow: Follow) -> pp.ParserElement:
    value = joined(literal("="), maybe(exact(pp.CharsNotIn(_BLANK))))
    end = first_of(exact(pp.OneOrMore(literal(" "))), exact(pp.StringEnd()))
    item = joined(run(_KEY), maybe(value), end)
    if follow.literals:
        stop = first_of(*(literal(text) for text in sorted(follow.literals)))
        item = joined(exact(~stop), item)
    return joined(exact(pp.ZeroOrMore(item)))
