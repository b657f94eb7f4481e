"""The ban feed: JSON lines from the daemon to firewall followers, encoded and decoded.

A feed is a hello, a snapshot of every ban in force (in one or more lines), then changes and heartbeats:

    {"type":"hello","version":1,"software":"logguardd 0.1.0","now":1790000000000000}
    {"type":"snapshot","bans":[BAN, ...],"more":true}
    {"type":"snapshot","bans":[BAN, ...],"more":false}
    {"type":"change","add":[BAN, ...],"remove":[{"network":"192.0.2.1","port":0}, ...]}
    {"type":"heartbeat","now":1790000005000000}

A BAN is {"network":"192.0.2.1","port":22,"until":1790000300000000,"jail":"flood","reason":"..."}: ``network`` in
canonical text (RFC 5952 for IPv6; a single address without its length), ``port`` 0 for all ports, ``until`` in
microseconds or null for ever, ``reason`` optional. Adding a ban that is in force replaces it. A line is UTF-8, ends
with LF and has at most MAX_LINE bytes. Keys that a reader does not know are left alone; types that it does not know
are errors, so a change of meaning needs a new version in the hello.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from logguardd.errors import FeedError
from logguardd.networks import network_text, parse_network
from logguardd.records import Ban, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The version of the format that this module writes and reads.
VERSION = 1
#: The most bytes of one line, its LF included.
MAX_LINE = 1 << 20
#: What an encoder aims at: a line that is decoded in a few milliseconds.
_LINE = 128 * 1024

MAX_NAME = 64
MAX_REASON = 512
MAX_PORT = 65535
_MAX_TIME = (1 << 63) - 1
_SHOWN = 60

_T = TypeVar("_T")

#: What makes a ban one of a kind: its network and port.
Key = tuple[Network, int]


@dataclass(frozen=True, slots=True)
class Hello:
    """The first line: the feed's version, the daemon's name and version, and its clock."""

    version: int
    software: str
    now: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Bans in force; ``more`` says that the next snapshot line continues this one."""

    bans: tuple[Ban, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Bans that were made or extended, and the keys of bans that ended early."""

    add: tuple[Ban, ...]
    remove: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The daemon is alive; ``now`` is its clock."""

    now: int


Event = Hello | Snapshot | Change | Heartbeat


def hello(now: int, software: str) -> Iterator[bytes]:
    """Yield the line that begins a feed."""
    yield _line({"type": "hello", "version": VERSION, "software": _clean(software, MAX_NAME), "now": now})


def snapshot(bans: Iterable[Ban]) -> Iterator[bytes]:
    """Yield the lines of a whole snapshot, at least one; bounded in length, however many bans there are."""
    previous: str | None = None
    for chunk in _chunks(map(_ban, bans)):
        if previous is not None:
            yield b'{"type":"snapshot","bans":[%b],"more":true}\n' % previous.encode()
        previous = chunk
    yield b'{"type":"snapshot","bans":[%b],"more":false}\n' % (previous or "").encode()


def change(add: Iterable[Ban], remove: Iterable[Key] = ()) -> Iterator[bytes]:
    """Yield the lines of a change, none if it is empty; removals come first, so a key in both ends up added."""
    for chunk in _chunks(map(_key, remove)):
        yield b'{"type":"change","add":[],"remove":[%b]}\n' % chunk.encode()
    for chunk in _chunks(map(_ban, add)):
        yield b'{"type":"change","add":[%b],"remove":[]}\n' % chunk.encode()


def heartbeat(now: int) -> Iterator[bytes]:
    """Yield the line that says the daemon is alive."""
    yield _line({"type": "heartbeat", "now": now})


class Decoder:
    """Bytes of a feed to its events, in the order that the format allows. Holds at most one line."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._number = 0
        self._greeted = False
        self._complete = False
        self._continued = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of the lines that ``data`` completes.

        Raises errors.FeedError at the first line that is not valid or out of order; the feed is of no use after that.
        """
        events: list[Event] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            if self._pending:
                line = bytes(self._pending) + line
                self._pending.clear()
            self._number += 1
            events.append(self._ordered(decode(line, self._number)))
            start = end + 1
        self._pending += data[start:]
        if len(self._pending) >= MAX_LINE:
            raise FeedError(f"line {self._number + 1}: longer than {MAX_LINE} bytes")
        return events

    def _ordered(self, event: Event) -> Event:
        where = f"line {self._number}"
        if isinstance(event, Hello):
            if self._greeted:
                raise FeedError(f"{where}: a second hello")
            self._greeted = True
        elif not self._greeted:
            raise FeedError(f"{where}: the feed must begin with a hello")
        elif isinstance(event, Snapshot):
            self._continued = event.more
            self._complete = self._complete or not event.more
        elif isinstance(event, Change) and (self._continued or not self._complete):
            raise FeedError(f"{where}: a change before the snapshot's end")
        return event


def decode(line: bytes, number: int = 1) -> Event:
    """Return the event of one line (without its LF; ``number`` is for the message); raise errors.FeedError."""
    try:
        return _event(_parse(line))
    except _Wrong as error:
        raise FeedError(f"line {number}: {error}") from None


class _Wrong(ValueError):  # noqa: N818 - never leaves this module
    """What is wrong, and where in the line."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)


def _parse(line: bytes) -> dict[str, object]:
    if len(line) >= MAX_LINE:
        raise _Wrong("", f"longer than {MAX_LINE} bytes")
    try:
        value = json.loads(line.decode(), parse_constant=_no_constant)
    except RecursionError:
        raise _Wrong("", "nested too deeply") from None
    except ValueError as error:
        raise _Wrong("", f"not JSON: {str(error)[:_SHOWN]}") from None
    if type(value) is not dict:
        raise _Wrong("", "not a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _event(value: dict[str, object]) -> Event:
    match value.get("type"):
        case "hello":
            version = _integer(value, "version", 1, _MAX_TIME)
            if version != VERSION:
                raise _Wrong("version", f"{version} is not spoken here; only {VERSION} is")
            return Hello(version, _text(value, "software", MAX_NAME), _integer(value, "now", 0, _MAX_TIME))
        case "snapshot":
            more = value.get("more")
            if type(more) is not bool:
                raise _Wrong("more", "must be true or false")
            return Snapshot(_items(value, "bans", _read_ban), more)
        case "change":
            return Change(_items(value, "add", _read_ban), _items(value, "remove", _read_key))
        case "heartbeat":
            return Heartbeat(_integer(value, "now", 0, _MAX_TIME))
        case other:
            raise _Wrong("type", f"{_show(other)} is not hello, snapshot, change or heartbeat")


def _items(value: dict[str, object], key: str, read: Callable[[dict[str, object]], _T]) -> tuple[_T, ...]:
    items = value.get(key)
    if type(items) is not list:
        raise _Wrong(key, "must be a list")
    result: list[_T] = []
    for index, item in enumerate(items):
        if type(item) is not dict:
            raise _Wrong(f"{key}[{index}]", "must be an object")
        try:
            result.append(read(item))
        except _Wrong as error:
            raise _Wrong(f"{key}[{index}]", str(error)) from None
    return tuple(result)


def _read_key(value: dict[str, object]) -> Key:
    return _network(value), _integer(value, "port", 0, MAX_PORT)


def _read_ban(value: dict[str, object]) -> Ban:
    until = None if value.get("until", 0) is None else _integer(value, "until", 0, _MAX_TIME)
    reason = _text(value, "reason", MAX_REASON) if "reason" in value else ""
    network, port = _read_key(value)
    return Ban(network, port, _text(value, "jail", MAX_NAME), 0, until, reason)


def _network(value: dict[str, object]) -> Network:
    text = value.get("network")
    if type(text) is not str:
        raise _Wrong("network", "must be text")
    try:
        return parse_network(text)
    except ValueError:
        raise _Wrong("network", f"{_show(text)} is not an address or prefix in canonical form") from None


def _integer(value: dict[str, object], key: str, low: int, high: int) -> int:
    number = value.get(key)
    if type(number) is not int or not low <= number <= high:
        raise _Wrong(key, f"must be a whole number from {low} to {high}")
    return number


def _text(value: dict[str, object], key: str, limit: int) -> str:
    text = value.get(key)
    if type(text) is not str:
        raise _Wrong(key, "must be text")
    if len(text) > limit or not text.isprintable():
        raise _Wrong(key, f"must be at most {limit} printable characters")
    return text


def _show(value: object) -> str:
    text = ascii(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _clean(text: str, limit: int) -> str:
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _ban(ban: Ban) -> str:
    value: dict[str, object] = {
        "network": network_text(ban.network),
        "port": ban.port,
        "until": ban.until,
        "jail": _clean(ban.jail, MAX_NAME),
    }
    if ban.reason:
        value["reason"] = _clean(ban.reason, MAX_REASON)
    return json.dumps(value, separators=(",", ":"))


def _key(key: Key) -> str:
    return json.dumps({"network": network_text(key[0]), "port": key[1]}, separators=(",", ":"))


def _chunks(items: Iterable[str]) -> Iterator[str]:
    """Join ASCII items with commas into texts of about _LINE characters; one item is far shorter than MAX_LINE."""
    chunk: list[str] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(item) + 1
        if size >= _LINE:
            yield ",".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield ",".join(chunk)
