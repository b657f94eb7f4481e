"""Internet addresses in text: regular expressions and pyparsing elements of the same language, and normalisation.

IPv4 is RFC 3986's ``IPv4address`` (no leading zeros), IPv6 its ``IPv6address`` (RFC 4291 section 2.2 in text) with an
optional RFC 4007 zone. Of several addresses that start at one place the longest is meant.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address

import pyparsing as pp

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_H16 = "[0-9A-Fa-f]{1,4}"
# IPv4 as the end of IPv6: smaller than IPV4, and slower.
_LAST = rf"{_OCTET}(?:\.{_OCTET}){{3}}"

#: IPv4address of RFC 3986 section 3.2.2.
IPV4 = rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}"


def _ipv6() -> str:
    """IPv6address of RFC 3986 section 3.2.2, the forms with most groups after ``::`` first, so that the longest wins."""
    last = rf"(?:{_LAST}|{_H16}:{_H16})"
    forms = [f"(?:{_H16}:){{6}}{last}"]
    for after in range(7, 1, -1):
        before = f"(?:{_H16}(?::{_H16}){{0,{6 - after}}})?" if after < 7 else ""  # noqa: PLR2004
        forms.append(f"{before}::(?:{_H16}:){{{after - 2}}}{last}")
    forms.append(f"(?:{_H16}(?::{_H16}){{0,5}})?::{_H16}")
    forms.append(f"(?:{_H16}(?::{_H16}){{0,6}})?::")
    return f"(?:{'|'.join(forms)})"


#: IPv6address of RFC 3986 section 3.2.2.
IPV6 = _ipv6()
#: The same language where nothing follows that could itself stand in an address: the groups are counted by looking ahead
#: over all that looks like them. Half the size, and compiles in half the time.
IPV6_ALONE = (
    rf"(?:(?:{_H16}:){{6}}(?:{_H16}:{_H16}|{_LAST})"
    rf"|(?!:*{_H16}(?::+{_H16}){{7}})(?!:*{_H16}(?::+{_H16}){{6}}\.)"
    rf"(?:{_H16}(?::{_H16})*)?::(?:{_H16}(?::{_H16})*(?::{_LAST})?|{_LAST})?)"
)
#: A zone (RFC 4007 section 11): an interface name or number.
ZONE = "%[0-9A-Za-z_.-]{1,32}"

_ZONE_CHARACTERS = pp.alphanums + "_.-"


def exact(element: pp.ParserElement) -> pp.ParserElement:
    """Let the element match where it stands: pyparsing skips blanks before every element unless told otherwise."""
    return element.leave_whitespace(recursive=False)


def joined(*parts: pp.ParserElement) -> pp.ParserElement:
    """Return the parts one after the other as one token, with no blanks between them.

    pyparsing's Combine does the same, but copies all that is in it again at every level.
    """
    return exact(pp.And(list(parts))).set_parse_action(lambda tokens: "".join(tokens))  # noqa: PLW0108 - looked at


def first_of(*choices: pp.ParserElement) -> pp.ParserElement:
    """Return the ordered choice."""
    return exact(pp.MatchFirst(list(choices)))


def maybe(element: pp.ParserElement) -> pp.ParserElement:
    """Return the element as optional."""
    return exact(pp.Opt(element))


def literal(text: str) -> pp.ParserElement:
    """Return exactly this text."""
    return exact(pp.Literal(text))


def no(characters: str) -> pp.ParserElement:
    """Return a lookahead: none of the characters stands here."""
    return exact(~exact(pp.Char(characters)))


def run(characters: str, most: int = 0) -> pp.ParserElement:
    """Return one to ``most`` of the characters (0: any number), all that stand there; more of them do not match."""
    return exact(pp.Word(characters, max=most))


def ipv4_element() -> pp.ParserElement:
    """Build IPv4address in pyparsing."""
    octet = run(pp.nums, 3)
    octet.add_condition(
        lambda tokens: int(tokens[0]) <= 255 and str(int(tokens[0])) == tokens[0],  # noqa: PLR2004
        call_during_try=True,
    )
    dot = literal(".")
    return joined(octet, dot, octet, dot, octet, dot, octet)


def ipv6_element() -> pp.ParserElement:
    """Build IPv6address in pyparsing, ordered as in the regular expression."""
    h16 = run(pp.hexnums, 4)
    colon, double = literal(":"), literal("::")
    group, ipv4 = joined(h16, colon), ipv4_element()

    def before(most: int) -> pp.ParserElement:
        more = joined(colon, h16)
        parts = [h16] + [maybe(more)] * most
        return maybe(joined(*parts))

    last = first_of(ipv4, joined(group, h16))
    forms = [joined(*[group] * 6, last)]
    for after in range(7, 1, -1):
        head = [before(6 - after), double] if after < 7 else [double]  # noqa: PLR2004
        forms.append(joined(*head, *[group] * (after - 2), last))
    forms.append(joined(before(5), double, h16))
    forms.append(joined(before(6), double))
    return first_of(*forms)


def zone_element() -> pp.ParserElement:
    """Build a zone in pyparsing."""
    return joined(literal("%"), run(_ZONE_CHARACTERS, 32))


_MAPPED = re.compile(rf"::ffff:({IPV4})", re.IGNORECASE)


@lru_cache(maxsize=4096)
def _normal6(text: str) -> str:
    if mapped := _MAPPED.fullmatch(text):
        return mapped[1]
    address = IPv6Address(text)
    return str(address.ipv4_mapped or address)


def normal(text: str) -> str:
    """Return the address as the archive keeps it: no brackets, no zone, IPv4-mapped IPv6 as IPv4, RFC 5952 IPv6.

    ``text`` must be what the grammar of this module matched.
    """
    if ":" not in text:
        return text
    return _normal6(text.strip("[]").partition("%")[0])


def special(address: str) -> bool:
    """Whether a normalised address is never one peer: unspecified, multicast, broadcast, or reserved (RFC 6890)."""
    if ":" in address:
        return _special6(address)
    first = address.partition(".")[0]
    return first == "0" or (len(first) == 3 and first >= "224")  # noqa: PLR2004


@lru_cache(maxsize=4096)
def _special6(address: str) -> bool:
    parsed = IPv6Address(address)
    return parsed.is_unspecified or parsed.is_multicast
