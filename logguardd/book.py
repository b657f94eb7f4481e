"""The book of bans: which are in force, which have been, how often each was made; bounded, and without a clock."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from heapq import heapify, heappop, heappush
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logguardd.records import Ban, Network

#: Why a ban leaves the book before its time (Change.evicted).
EVICTED = "too many bans in force: the one that would have ended first makes room"

# Later than every time: the end of a ban without one.
_NEVER = 1 << 63
# The heap is made anew once it holds this many times the bans in force (and some): extended bans leave old entries.
_STALE, _STALE_LEAST = 2, 1_000

# IP version, prefix length, first address.
_Place = tuple[int, int, int]


class Change(NamedTuple):
    """What adding a ban changed: ``ban`` is in force now, ``extended`` says that an earlier one of its key was before.

    ``evicted`` is the ban that left the book to make room, if any (see EVICTED).
    """

    ban: Ban
    extended: bool = False
    evicted: Ban | None = None


class BanBook:
    """Bans in force by network and port, and the history that escalation needs.

    At most ``max_active`` bans are in force; of ``max_history`` networks and ports it is known how often they were
    banned, and of ``max_past`` bans that ended, everything. Times are arguments, in microseconds.
    """

    def __init__(self, max_active: int = 1_000_000, max_history: int = 200_000, max_past: int = 10_000) -> None:
        self._max_active = max_active
        self._max_history = max_history
        self._max_past = max_past
        self._places: dict[_Place, dict[int, Ban]] = {}
        self._active = 0
        # How many places there are of each (version, prefix length): what an address has to be looked up under.
        self._lengths: dict[tuple[int, int], int] = {}
        self._ends: list[tuple[int, int, _Place, int]] = []
        self._order = 0
        self._history: OrderedDict[tuple[_Place, int], int] = OrderedDict()
        self._past: OrderedDict[tuple[_Place, int], Ban] = OrderedDict()

    def __len__(self) -> int:
        """Return how many bans are in force."""
        return self._active

    def load(self, bans: Iterable[Ban], now: int) -> list[Ban]:
        """Take over stored bans, newest last: active ones into force, all into the history; return those evicted."""
        evicted = []
        for ban in bans:
            place = _place(ban.network)
            self._count(place, ban.port, ban.count)
            if ban.active(now):
                change = self._put(place, ban)
                if change.evicted is not None:
                    evicted.append(change.evicted)
            else:
                self._end(place, ban)
        return evicted

    def add(self, ban: Ban) -> Change | None:
        """Put a new ban into force; None if one of this network and port is in force already: it is not made again."""
        place = _place(ban.network)
        return None if self._at(place, ban.port) else self._put(place, ban)

    def extend(self, ban: Ban) -> Change | None:
        """Take over another daemon's ban: as ``add``, but if one is in force the one that ends later counts.

        The other daemon may not know of all the bans before; what is known here counts then.
        """
        place = _place(ban.network)
        known = self._at(place, ban.port)
        if known is not None:
            if _end_of(ban) <= _end_of(known):
                return None
            return self._put(place, replace(ban, count=max(ban.count, known.count)))
        past = self._past.get((place, ban.port))
        if past is None or past.since < ban.since:
            ban = replace(ban, count=max(ban.count, self._history.get((place, ban.port), 0) + 1))
        return self._put(place, ban)

    def replace(self, ban: Ban) -> Change:
        """Put an operator's ban into force, whatever there was; it may also end earlier."""
        return self._put(_place(ban.network), ban)

    def remove(self, network: Network, port: int | None, now: int) -> list[Ban]:
        """End the bans of exactly this network, on this port or (None) on all of them; return them as they were.

        Among ``past`` they stand with ``now`` as their end.
        """
        place = _place(network)
        ports = list(self._places.get(place, ())) if port is None else [port]
        removed = [ban for one in ports if (ban := self._take(place, one)) is not None]
        for ban in removed:
            self._past[place, ban.port] = replace(ban, until=now)
        return removed

    def expire(self, now: int) -> list[Ban]:
        """End and return the bans whose time is over."""
        ended = []
        while self._ends and self._ends[0][0] <= now:
            ban = self._pop()
            if ban is not None:
                ended.append(ban)
        return ended

    def get(self, network: Network, port: int) -> Ban | None:
        """Return the ban in force of exactly this network and port."""
        return self._at(_place(network), port)

    def covers(self, address: str, port: int = 0) -> Ban | None:
        """Return a ban in force that keeps this address out of this port (or of all, which also covers every port).

        With ``port`` 0 only a ban of all ports covers. Raises ValueError for text that is not an address.
        """
        parsed = ip_address(address)
        version, number, bits = parsed.version, int(parsed), parsed.max_prefixlen
        for of_version, length in self._lengths:
            if of_version == version:
                ports = self._places.get((version, length, number >> (bits - length) << (bits - length)), {})
                found = ports.get(0) or ports.get(port)
                if found is not None:
                    return found
        return None

    def times(self, network: Network, port: int) -> int:
        """Return how often this network and port has been banned so far, as far as it is remembered."""
        return self._history.get((_place(network), port), 0)

    def snapshot(self) -> list[Ban]:
        """Return the bans in force."""
        return [ban for ports in self._places.values() for ban in ports.values()]

    def past(self) -> list[Ban]:
        """Return the bans that ended and are still remembered, the one that ended last at the end."""
        return list(self._past.values())

    def _at(self, place: _Place, port: int) -> Ban | None:
        ports = self._places.get(place)
        return None if ports is None else ports.get(port)

    def _put(self, place: _Place, ban: Ban) -> Change:
        """Put the ban into force in place of the one of its key."""
        ports = self._places.get(place)
        extended = ports is not None and ban.port in ports
        evicted = None
        if not extended:
            while self._active >= self._max_active and evicted is None:
                evicted = self._pop()
            self._active += 1
            # The eviction may have emptied the place.
            ports = self._places.get(place)
        if ports is None:
            ports = self._places[place] = {}
            length = place[:2]
            self._lengths[length] = self._lengths.get(length, 0) + 1
        ports[ban.port] = ban
        self._past.pop((place, ban.port), None)
        self._count(place, ban.port, ban.count)
        self._order += 1
        heappush(self._ends, (_end_of(ban), self._order, place, ban.port))
        if len(self._ends) > _STALE * self._active + _STALE_LEAST:
            self._ends = [
                (_end_of(ban), order, place, port)
                for order, (place, port, ban) in enumerate(
                    (place, port, ban) for place, ports in self._places.items() for port, ban in ports.items()
                )
            ]
            heapify(self._ends)
        return Change(ban, extended, evicted)

    def _pop(self) -> Ban | None:
        """Take what ends first out of the heap, and the ban it stands for out of force (None: there is another now)."""
        end, _, place, port = heappop(self._ends)
        ban = self._at(place, port)
        return self._take(place, port) if ban is not None and _end_of(ban) == end else None

    def _take(self, place: _Place, port: int) -> Ban | None:
        ports = self._places.get(place)
        ban = ports.pop(port, None) if ports is not None else None
        if ban is None:
            return None
        self._active -= 1
        if not ports:
            del self._places[place]
            length = place[:2]
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]
        self._end(place, ban)
        return ban

    def _end(self, place: _Place, ban: Ban) -> None:
        self._past[place, ban.port] = ban
        self._past.move_to_end((place, ban.port))
        if len(self._past) > self._max_past:
            self._past.popitem(last=False)

    def _count(self, place: _Place, port: int, count: int) -> None:
        key = (place, port)
        self._history[key] = max(count, self._history.get(key, 0))
        self._history.move_to_end(key)
        if len(self._history) > self._max_history:
            self._history.popitem(last=False)


def _place(network: Network) -> _Place:
    return network.version, network.prefixlen, int(network.network_address)


def _end_of(ban: Ban) -> int:
    return _NEVER if ban.until is None else ban.until
