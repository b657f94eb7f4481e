r"""The endpoint grammar: the addresses, ports and protocol that stand in a message which no rule claims.

An address stands alone: it is a whole word, of which ``name:`` before it, ``:port`` behind it and one full stop or colon
at the end may be part, or it stands in square brackets. So parts of versions (1.2.3.4-5.el9), object identifiers
(1.3.6.1.4.1), paths (Chrome/1.2.3.4), host names (1.2.3.4.example), times, MAC addresses and EUI-64 identifiers are none.

Ports: ``a.b.c.d:port``, ``[v6]:port``, ``ip#port``, ``ip(port)``, ``ip port n``, ``ip/port``, and keys (``SPT=``, ``dport=``,
``"src_port":``). ``ip/n`` with n up to 32 (IPv6: 128) is a network and no address where the bits behind the prefix are
zero (10.0.0.0/8), otherwise an address with its prefix length (192.0.2.7/24), not a port; only a greater n is a port.

A word before an address tells which end it is: ``from``, ``SRC=``, ``rhost=``, ``client:``, ... or ``to``, ``DST=``, ``->``, ...
The address is the first one labelled as remote, else the first not labelled as local or as a name, else the first.
"""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import TYPE_CHECKING, NamedTuple

from logguardd.grammar.addresses import IPV4, IPV6, IPV6_ALONE, ZONE, normal, special
from logguardd.grammar.cut import short
from logguardd.records import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Words that say that the address after them is the remote end, or this one; or a version, which is no address.
REMOTE = (
    "src", "srcip", "src_ip", "source", "source_ip", "saddr", "from", "by", "rhost", "client", "client_ip", "clientip",
    "remote", "remote_ip", "remote_addr", "remip", "rip", "peer",
)  # fmt: skip
LOCAL = (
    "dst", "dstip", "dst_ip", "dest", "dest_ip", "destination", "destination_ip", "daddr", "to", "on", "at", "server",
    "local", "lip", "laddr", "listen", "listening", "upstream",
)  # fmt: skip
#: And words that say that it is what a client calls himself, or wants to be.
NAMES = (
    "user", "username", "user_name", "ruser", "login", "logname", "account", "acct", "name", "uid", "helo", "ehlo", "sender",
    "recipient", "rcpt", "mailfrom", "query",
)  # fmt: skip
VERSION = ("version", "ver", "release", "rev", "revision", "build", "firmware", "section")
#: Keys of ports and the protocol, and words that are one.
SOURCE_PORTS = ("spt", "sport", "srcport", "src_port", "source_port")
PORTS = ("dpt", "dport", "dstport", "dst_port", "dest_port", "destination_port")
PROTOCOL_KEYS = ("proto", "protocol")
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "sctp", "dccp")
NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "33": "dccp", "58": "icmpv6", "132": "sctp"}

#: Characters of words; and those that may stand, one to four of them, between a label and its address.
WORD = "0-9A-Za-z_.:%+~\\-"
BETWEEN = " =:\"'([</"
#: The most addresses of a message that are looked at.
MOST = 16

_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)(?![0-9A-Za-z_])"
_ADDRESS = re.compile(
    rf"""
    (?: \[ (?P<inside> {IPV4} | {IPV6_ALONE}(?:{ZONE}+)? ) \] (?: :(?P<port1>{_PORT}) )?
      | (?<![{WORD}]) (?<![{WORD}]/) (?: (?P<name>[A-Za-z_][A-Za-z0-9_-]{{0,63}}): )??
        (?: (?P<four>{IPV4}) (?: :(?P<port2>{_PORT}) )?
          | (?! (?:[0-9A-Fa-f]{{2}}:){{7}}[0-9A-Fa-f]{{2}}(?![0-9A-Fa-f]) ) (?=[A-Fa-f:]*[0-9])
            (?P<six>{IPV6}(?:{ZONE}+)?) )
        [.:]? (?![{WORD}])
    )
    (?: \#(?P<port3>{_PORT}) | /(?P<slash>{_PORT}) | \((?P<port4>{_PORT})\)
      | [ ,(]{{1,2}}[Pp][Oo][Rr][Tt][ =:]{{1,2}}(?P<port5>{_PORT}) )?
    """,
    re.VERBOSE,
)


class Find(NamedTuple):
    """One address as it stands: where, its label, lower case, its text, its port (or None) and what stands after a slash."""

    start: int
    label: str
    text: str
    port: str | None
    slash: str | None


_IS_REMOTE, _IS_LOCAL, _IS_VERSION = frozenset(REMOTE), frozenset((*LOCAL, "->")), frozenset(VERSION)
_IS_NAME = frozenset(NAMES)
LABELS = _IS_REMOTE | _IS_LOCAL | _IS_VERSION | _IS_NAME
LONGEST_NAME, MOST_BETWEEN = 64, 4
REACH = LONGEST_NAME + MOST_BETWEEN + max(len(label) for label in LABELS) + 2
#: More than a name, its colon and an address may have before any place that a hint finds.
_LONGEST_RUN = 160
_WORD_BACKWARDS = _WORD_RUN = re.compile(f"[{WORD}]*")

#: What could be an address, whatever stands around it; of the second, what has enough colons.
_LIKE_IPV4 = re.compile(r"(?<![0-9])[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9])")
_LIKE_IPV6 = re.compile(r"[A-Fa-f:]*[0-9][0-9A-Fa-f:]*")

#: What every message with an address has somewhere; quick to look for.
_FOUR = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_HINT = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::|(?:[0-9A-Fa-f]{1,4}:){6}")


def _label_before(message: str, start: int, *, bracketed: bool) -> str:
    """Return the label that stands before an address at ``start``, lower case, or "".

    Between them one to four characters of BETWEEN; before a bracket also a host name.
    """
    before = message[max(0, start - REACH) : start][::-1]
    if bracketed:
        host = _WORD_BACKWARDS.match(before)
        length = host.end() if host else 0
        before = before[length:] if length <= LONGEST_NAME else ""
    rest = before.lstrip(BETWEEN)
    if not 1 <= len(before) - len(rest) <= MOST_BETWEEN:
        return ""
    if rest.startswith(">-"):
        return "->"
    word = _WORD_BACKWARDS.match(rest)
    label = word[0][::-1].lower() if word else ""
    return label if label in LABELS else ""


def _keyed(keys: Sequence[str], value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![{WORD}])(?:{'|'.join(keys)})[\"']?[=:] ?[\"']?({value})", re.IGNORECASE | re.ASCII)


_SOURCE_PORT, _DESTINATION_PORT = _keyed(SOURCE_PORTS, _PORT), _keyed(PORTS, _PORT)
_PROTOCOL_KEY = _keyed(PROTOCOL_KEYS, "[A-Za-z0-9-]{1,16}(?![A-Za-z0-9-])")
_PROTOCOL = re.compile(rf"(?<![{WORD}])(?:{'|'.join(PROTOCOLS)})(?![{WORD}])", re.IGNORECASE | re.ASCII)


def endpoints(message: str, times: int = 1) -> Match | None:
    """Return the address and ports in a message, as a match without a rule, or None where no address stands in it.

    It is countable if exactly one distinct address stands there (see _alone) that may be a peer's and is not labelled as
    local.
    """
    # Too few dots or colons are the rule, and cheap to see.
    if "::" in message or message.count(":") > 5:  # noqa: PLR2004
        hints = _HINT
    elif message.count(".") > 2:  # noqa: PLR2004
        hints = _FOUR
    else:
        return None
    finds = _finds(message, hints)
    if not finds:
        return None
    # Four searches of the whole message, most of which a look for a few letters spares.
    lower = message.lower()
    source = _SOURCE_PORT.search(message) if "spt" in lower or "port" in lower else None
    destination = _DESTINATION_PORT.search(message) if "dpt" in lower or "port" in lower else None
    protocol = _PROTOCOL_KEY.search(message) if "proto" in lower else None
    if protocol is None and ("cp" in lower or "udp" in lower or "icmp" in lower or "sctp" in lower):
        protocol = _PROTOCOL.search(message)
    return judge(
        message,
        finds,
        source[1] if source else None,
        destination[1] if destination else None,
        protocol[protocol.lastindex or 0] if protocol else None,
        times=times,
    )


def _finds(message: str, hints: re.Pattern[str]) -> list[Find]:
    """Return the first MOST addresses in a message as they stand.

    An address is a whole run of word characters, so it is tried only at the start of a run that ``hints`` finds, and not
    at every character.
    """
    finds: list[Find] = []
    end = 0
    for hint in hints.finditer(message):
        place = hint.start()
        if place < end:
            continue
        run = _WORD_BACKWARDS.match(message[max(0, place - _LONGEST_RUN) : place][::-1])
        start = place - (run.end() if run else 0)
        bracket = _ADDRESS.match(message, start - 1) if message[start - 1 : start] == "[" else None
        found = bracket or _ADDRESS.match(message, start)
        if found is None or found.start() < end:
            # No other hint in the run can do better; hostile lines have thousands.
            run = _WORD_RUN.match(message, place)
            end = run.end() if run else place
            continue
        end = found.end()
        inside, port1, name, four, port2, six, port3, slash, port4, port5 = found.groups()
        label = name.lower() if name else ""
        if label not in LABELS:
            label = _label_before(message, found.start(), bracketed=inside is not None)
        finds.append(
            Find(found.start(), label, inside or four or six, port1 or port2 or port3 or port4 or port5, slash)
        )
        if len(finds) == MOST:
            break
    return finds


def judge(
    message: str,
    finds: Sequence[Find],
    source_port: str | None,
    port: str | None,
    protocol: str | None,
    *,
    times: int = 1,
) -> Match | None:
    """Decide which of the addresses found is the remote one; the ports and protocol are those given by key or word."""
    ends = [end for find in finds if find.label not in _IS_VERSION and (end := _end(find))]
    if not ends:
        return None
    remote = ends[0]
    if len(ends) > 1:
        remote = next((end for end in ends if end[0] in _IS_REMOTE), None) or next(
            (end for end in ends if end[0] not in _IS_LOCAL | _IS_NAME), remote
        )
    label, address, beside = remote
    local = label in _IS_LOCAL
    other = next((end[2] for end in ends if end[0] in _IS_LOCAL and end[2]), 0) if local or len(ends) > 1 else 0
    protocol = protocol.lower() if protocol else None
    return Match(
        rule=None,
        address=address,
        source_port=(0 if local else beside) or int(source_port or 0),
        port=int(port or 0) or other,
        protocol=NUMBERS.get(protocol, protocol) if protocol else None,
        user=None,
        countable=len({end[1] for end in ends}) == 1
        and label not in _IS_NAME
        and not local
        and not special(address)
        and _alone(message, finds),
        times=times,
    )


def _alone(message: str, finds: Sequence[Find]) -> bool:
    """Whether nothing else in the message could be the peer's address, had a client written the one that was found.

    A client's text may make the program's address look like a version or a part of a path, may hold more addresses than
    are looked at, and may be long enough to have it cut off. What the message begins with is taken for the program's own.
    """
    if len(finds) >= MOST:
        return False
    if finds[0].start == 0:
        return True
    texts = {find.text for find in finds}
    if not short(message) or (len(texts) > 1 and len({normal(text) for text in texts}) > 1):
        return False
    fours = {text.rpartition(":")[2] for text in texts}
    if not fours.issuperset(_LIKE_IPV4.findall(message)):
        return False
    if "::" not in message and message.count(":") <= 6:  # noqa: PLR2004
        return True
    sixes = {text.partition(".")[0].partition("%")[0] for text in texts}
    return not any(
        found not in sixes and found.removesuffix(":") not in sixes
        for found in _LIKE_IPV6.findall(message)
        if "::" in found or found.count(":") > 6  # noqa: PLR2004
    )


def _end(find: Find) -> tuple[str, str, int] | None:
    """Return a find's label, normalised address and port, or None if it is a network."""
    address = find.text
    if ":" in address:
        address = normal(address)
    port = int(find.port) if find.port else 0
    if find.slash is not None:
        number, bits = int(find.slash), 128 if ":" in address else 32
        if number > bits:
            port = number
        elif number < bits:
            network = ip_interface(f"{address}/{number}")
            if network.ip == network.network.network_address:
                return None
    return find.label, address, port
