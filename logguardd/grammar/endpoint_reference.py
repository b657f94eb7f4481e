"""The endpoint grammar in pyparsing: the reference that endpoints.py's regular expressions must equal."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pyparsing as pp

from logguardd.grammar.addresses import (
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
from logguardd.grammar.endpoints import (
    BETWEEN,
    LABELS,
    LONGEST_NAME,
    MOST,
    MOST_BETWEEN,
    PORTS,
    PROTOCOL_KEYS,
    PROTOCOLS,
    REACH,
    SOURCE_PORTS,
    Find,
    judge,
)

if TYPE_CHECKING:
    from logguardd.records import Match

_WORD = pp.alphanums + "_.:%+~-"


class _Grammar(NamedTuple):
    address: pp.ParserElement
    label: pp.ParserElement
    label_of_bracket: pp.ParserElement
    source_port: pp.ParserElement
    port: pp.ParserElement
    protocol: tuple[pp.ParserElement, pp.ParserElement]


def endpoints(message: str, times: int = 1) -> Match | None:
    """Return what endpoints.endpoints does, slowly."""
    grammar = _grammar()
    finds: list[Find] = []
    for tokens, start, _ in grammar.address.scan_string(message):
        label = _named(tokens, "name", "").lower()
        if label not in LABELS:
            bracketed = "inside" in tokens
            label = _label_before(grammar.label_of_bracket if bracketed else grammar.label, message, start)
        address = tokens["inside"] if "inside" in tokens else tokens["bare"]
        port_of_it = _named(tokens, "port") or _named(tokens, "behind")
        finds.append(Find(start, label, address, port_of_it, _named(tokens, "slash")))
        if len(finds) == MOST:
            break
    if not finds:
        return None
    source_port, port = _first(grammar.source_port, message), _first(grammar.port, message)
    protocol = _first(grammar.protocol[0], message) or _first(grammar.protocol[1], message)
    return judge(message, finds, source_port, port, protocol, times=times)


def _named(tokens: pp.ParseResults, name: str, missing: Any = None) -> Any:
    return tokens[name] if name in tokens else missing  # noqa: SIM401 - get is not typed


def _label_before(parser: pp.ParserElement, message: str, start: int) -> str:
    """Read backwards from an address."""
    try:
        found = parser.parse_string(message[max(0, start - REACH) : start][::-1])["label"]
    except pp.ParseException:
        return ""
    label = str(found)[::-1].lower()
    return label if label in LABELS else ""


def _first(parser: pp.ParserElement, message: str) -> str | None:
    for tokens, _, _ in parser.scan_string(message, max_matches=1):
        return str(tokens["value"])
    return None


@cache
def _grammar() -> _Grammar:
    begin = exact(pp.Empty()).add_condition(
        lambda message, place, _: not place or message[place - 1] not in _WORD, call_during_try=True
    )
    no_path = exact(pp.Empty()).add_condition(
        lambda message, place, _: (
            message[max(0, place - 1) : place] != "/" or message[place - 2 : place - 1] not in {*_WORD}
        ),
        call_during_try=True,
    )
    end = no(_WORD)
    port = _port()
    named = exact(pp.Word(pp.alphas + "_", pp.alphanums + "_-", max=LONGEST_NAME))("name")
    ipv4, zone = ipv4_element(), maybe(zone_element())
    stop = maybe(exact(pp.Char(".:")))
    pair = exact(pp.Word(pp.hexnums, exact=2))
    eui64 = joined(*[joined(pair, literal(":"))] * 7, pair)
    digit = joined(maybe(run("ABCDEFabcdef:")), exact(pp.Char(pp.nums)))
    six = [_all(joined(form, zone)("bare"), stop, end) for form in ipv6_element().exprs]  # type: ignore[attr-defined]
    bare = first_of(
        _all(ipv4("bare"), maybe(_all(literal(":"), port("port"))), stop, end),
        _all(exact(~eui64), exact(pp.FollowedBy(digit)), first_of(*six)),
    )
    word = _all(begin, no_path, first_of(bare, _all(named, literal(":"), bare)))
    closed = [_all(joined(form, zone)("inside"), literal("]")) for form in ipv6_element().exprs]  # type: ignore[attr-defined]
    inside = first_of(_all(ipv4("inside"), literal("]")), *closed)
    bracket = _all(literal("["), inside, maybe(_all(literal(":"), port("port"))))
    after = first_of(
        _all(literal("#"), port("behind")),
        _all(literal("/"), port("slash")),
        _all(literal("("), port("behind"), literal(")")),
        _all(run(" ,(", 2), _caseless("port"), run(" =:", 2), port("behind")),
    )
    between = run(BETWEEN, MOST_BETWEEN)
    label = first_of(literal(">-"), exact(pp.Word(_WORD)))("label")
    return _Grammar(
        address=_whole(first_of(bracket, word), maybe(after)),
        label=_whole(between, label),
        label_of_bracket=_whole(maybe(run(_WORD, LONGEST_NAME)), between, label),
        source_port=_keyed(begin, SOURCE_PORTS, port),
        port=_keyed(begin, PORTS, port),
        protocol=(
            _keyed(begin, PROTOCOL_KEYS, run(pp.alphanums + "-", 16)),
            _whole(begin, first_of(*map(_caseless, _longest_first(PROTOCOLS)))("value"), end),
        ),
    )


def _all(*parts: pp.ParserElement) -> pp.ParserElement:
    return exact(pp.And(list(parts)))


def _caseless(word: str) -> pp.ParserElement:
    """Return the word in letters of either case; pyparsing's own way takes more letters for equal than ASCII's."""
    return exact(pp.Combine(pp.And([exact(pp.Char(letter + letter.upper())) for letter in word])))


def _longest_first(words: tuple[str, ...]) -> list[str]:
    return sorted(words, key=len, reverse=True)


def _whole(*parts: pp.ParserElement) -> pp.ParserElement:
    return _all(*parts).parse_with_tabs()


def _port() -> pp.ParserElement:
    number = run(pp.nums, 5)
    number.add_condition(
        lambda tokens: int(tokens[0]) < 1 << 16 and str(int(tokens[0])) == tokens[0], call_during_try=True
    )
    return joined(number, no(pp.alphanums + "_"))


def _keyed(begin: pp.ParserElement, keys: tuple[str, ...], value: pp.ParserElement) -> pp.ParserElement:
    quote = maybe(exact(pp.Char("\"'")))
    key = first_of(*map(_caseless, _longest_first(keys)))
    return _whole(begin, key, quote, exact(pp.Char("=:")), maybe(literal(" ")), quote, value("value"))
