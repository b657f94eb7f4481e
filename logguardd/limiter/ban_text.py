"""A ban as JSON for Redis, and back: what comes back may be anybody's, so it is checked and bounded."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from logguardd.networks import network_text, parse_network
from logguardd.records import SECOND, Ban, Network

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BAN = 8_192
_MAX_EVIDENCE = 4_096
# Python's own limit is far above what PostgreSQL takes, from 3.12 on.
_DEEPEST = 16
_MAX_JAIL, _MAX_REASON = 64, 512
_MAX_PORT = 65_535
_MAX_COUNT = 10**9
#: The longest ban, and how far another daemon's clock may be ahead of ours.
_LONGEST, _AHEAD = 36_600 * 86_400 * SECOND, 600 * SECOND
# Doubles, which Redis' scores are, hold whole numbers up to here.
_MAX_TIME = 1 << 53

_NAME = re.compile(r"([0-9a-f.:/]{2,43})\|([0-9]{1,5})")


def name_of(network: Network, port: int) -> str:
    """Return what a ban is called in Redis: its network and port."""
    return f"{network_text(network)}|{port}"


def key_of(name: str) -> tuple[Network, int]:
    """Return network and port of a name; raise ValueError for what is none."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[2]) > _MAX_PORT or str(int(match[2])) != match[2]:
        raise ValueError("not the name of a ban")
    return parse_network(match[1]), int(match[2])


def encode(ban: Ban) -> str:
    """Return the ban as JSON of at most MAX_BAN bytes, without its evidence where that is too long."""
    value = {
        "network": network_text(ban.network),
        "port": ban.port,
        "jail": _printable(ban.jail, _MAX_JAIL),
        "since": ban.since,
        "until": ban.until,
        "reason": _printable(ban.reason, _MAX_REASON),
        "count": ban.count,
        "evidence": dict(ban.evidence),
    }
    text = json.dumps(value, separators=(",", ":"), default=str)
    if len(text) > _MAX_EVIDENCE:
        text = json.dumps(value | {"evidence": {}}, separators=(",", ":"))
    return text


def decode(name: str, text: bytes, now: int) -> Ban:
    """Return the ban that stands under ``name``; raise ValueError, saying why, for whatever is not a sound one."""
    if len(text) > MAX_BAN:
        raise ValueError(f"longer than {MAX_BAN} bytes")
    try:
        return _ban(name, json.loads(text, parse_constant=_refuse, parse_float=_refuse_infinite), now)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _ban(name: str, value: object, now: int) -> Ban:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - decode promises one kind of error
    network, port = key_of(name)
    if value.get("network") != network_text(network) or value.get("port") != port or type(value["port"]) is not int:
        raise ValueError("network or port are not those of its name")
    since = _integer(value, "since", 0, now + _AHEAD)
    until = None if value.get("until", 0) is None else _integer(value, "until", since + 1, since + _LONGEST)
    return Ban(
        network,
        port,
        _text(value, "jail", _MAX_JAIL),
        since,
        until,
        _text(value, "reason", _MAX_REASON),
        _integer(value, "count", 1, _MAX_COUNT),
        _evidence(value.get("evidence")),
    )


def _integer(value: Mapping[str, object], key: str, low: int, high: int) -> int:
    number = value.get(key)
    if type(number) is not int or not low <= number <= min(high, _MAX_TIME):
        raise ValueError(f"{key} is not a sensible number")
    return number


def _text(value: Mapping[str, object], key: str, most: int) -> str:
    text = value.get(key)
    if type(text) is not str or len(text) > most or not text.isprintable():
        raise ValueError(f"{key} is not a short printable text")
    return text


def _evidence(value: object) -> Mapping[str, object]:
    if type(value) is not dict:
        raise ValueError("evidence is not an object")
    if _deeper(value, _DEEPEST):
        raise ValueError("nested too deeply")
    # PostgreSQL takes neither NUL nor lone surrogates.
    text = json.dumps(value, ensure_ascii=False)
    text.encode()
    if "\\u0000" in text:
        raise ValueError("a NUL in the evidence")
    return value


def _deeper(value: object, most: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most == 0 or any(_deeper(each, most - 1) for each in inner)


def _printable(text: str, most: int) -> str:
    text = text[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refuse_infinite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return number
