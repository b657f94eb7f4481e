"""The bans that daemons share, as they lie in Redis: a hash, two sorted sets and a stream of changes.

shared_bans.lua writes all four. Whatever is read may be anybody's: names that are none are told to ``ignore``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from logguardd.limiter.ban_text import encode, key_of
from logguardd.limiter.connection import Script, Server
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from logguardd.records import Ban

BANS, ENDS, UNBANNED, CHANGES = (
    "logguardd:bans",
    "logguardd:bans:ends",
    "logguardd:bans:unbanned",
    "logguardd:bans:changes",
)

#: Bans and unbans that are shared at most, and how long an unban is remembered, in microseconds.
MAX_BANS, MAX_UNBANS, UNBAN_TIME = 250_000, 10_000, 7 * 86_400 * SECOND
#: Bans read at a time.
PAGE = 1_000

#: The id before that of the first change.
BEGINNING = "0-0"
# Milliseconds that one read of the stream waits, and seconds until its connection is taken for dead.
_BLOCK, _READ_TIMEOUT = 1_000, 2.5
# Changes read at a time, and the longest text of one.
_CHANGES, _MAX_CHANGE = 100, 65_536
_MAX_NAME = 64


class Written(NamedTuple):
    """What became of a write: names unbanned since they were banned, and how many bans there was no room for."""

    refused: list[str]
    full: int


class Entry(NamedTuple):
    """One change in the stream: its id, the daemon it is by, names added, names removed with the times of that."""

    id: str
    by: str
    add: list[str]
    remove: list[tuple[str, float]]


class BanStore:
    """Reads and writes the shared bans. Methods raise errors.UnavailableError."""

    def __init__(self, url: str, ignore: Callable[[str, str], None]) -> None:
        """``ignore(reason, what)`` hears of what is not sound; raise errors.ConfigError for a wrong URL."""
        # Reading waits in Redis for a second at a time; writing must not wait for that.
        self._reader = Server(url, timeout=_READ_TIMEOUT)
        self._writer = Server(url)
        self._client: Any = self._reader.client
        self._script = Script(self._writer, "shared_bans.lua")
        self._ignore = ignore

    async def write(self, add: Mapping[str, Ban], remove: Mapping[str, int], now: int, by: str) -> Written:
        """Store bans by name and unbans with their times (some 100 at once), as the daemon ``by``; tell the others."""
        payload = {
            "add": [
                [name, encode(ban), ban.since, -1 if ban.until is None else ban.until] for name, ban in add.items()
            ],
            "remove": list(remove.items()),
        }
        keys = (BANS, ENDS, UNBANNED, CHANGES)
        limits = (MAX_BANS, MAX_UNBANS, UNBAN_TIME)
        refused, full = await self._script.run(keys, json.dumps(payload), now, by, *limits)
        return Written(refused.decode().split(), full)

    async def newest(self) -> str:
        """Return the id of the newest change."""
        found = await self._reader.reach(self._client.xrevrange(CHANGES, count=1))
        return _text(found[0][0]) if found else BEGINNING

    async def ends(self) -> AsyncIterator[list[tuple[str, float]]]:
        """Give the names of all bans and when they end, page by page; bans that come and go meanwhile may be missed."""
        for start in range(0, MAX_BANS, PAGE):
            page = await self._reader.reach(self._client.zrange(ENDS, start, start + PAGE - 1, withscores=True))
            yield self._named(page)
            if len(page) < PAGE:
                return

    async def unbanned(self) -> list[tuple[str, float]]:
        """Return the names that were unbanned, and when."""
        found = await self._reader.reach(self._client.zrange(UNBANNED, 0, MAX_UNBANS - 1, withscores=True))
        return self._named(found)

    async def fetch(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what is stored under these names."""
        if not names:
            return []
        found: list[bytes | None] = await self._reader.reach(self._client.hmget(BANS, list(names)))
        return found

    async def changes(self, after: str) -> list[Entry]:
        """Return the changes after that id, in order; none after a second in which there was none."""
        answer = await self._reader.reach(self._client.xread({CHANGES: after}, count=_CHANGES, block=_BLOCK))
        return [self._entry(_text(number), fields) for _, entries in answer for number, fields in entries]

    def _entry(self, number: str, fields: Mapping[bytes, bytes] | None) -> Entry:
        fields = fields or {}
        words = {key: fields.get(key, b"") for key in (b"by", b"add", b"remove")}
        if b"by" not in fields or any(len(word) > _MAX_CHANGE for word in words.values()):
            self._ignore("change", f"change {number} is not a daemon's")
            return Entry(number, "", [], [])
        remove = []
        for word in words[b"remove"].split():
            name, _, at = word.rpartition(b"@")
            remove.append((name, float(at) if at.isdigit() and len(at) < _MAX_NAME else 0.0))
        return Entry(
            number,
            _text(words[b"by"]),
            [name for name, _ in self._named((word, 0.0) for word in words[b"add"].split())],
            self._named(remove),
        )

    def _named(self, pairs: Iterable[tuple[bytes, float]]) -> list[tuple[str, float]]:
        """Return the pairs whose first item is the name of a ban."""
        good = []
        for word, number in pairs:
            name = _text(word[:_MAX_NAME])
            try:
                key_of(name)
            except ValueError as error:
                self._ignore("name", f"{name!r} in Redis: {error}")
            else:
                good.append((name, number))
        return good

    async def close(self) -> None:
        """Close connections."""
        await self._reader.drop()
        await self._writer.drop()


def _text(word: bytes) -> str:
    return word.decode("ascii", "replace")
