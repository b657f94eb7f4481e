"""What a feed says is banned, and what of it the kernel has yet to be told; pure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from logguardd.feed import Change, Heartbeat, Hello, Snapshot
from logguardd.networks import network_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logguardd.feed import Event, Key
    from logguardd.firewall.guard import Guard
    from logguardd.records import Ban

_log = logging.getLogger(__name__)

#: The most bans that are mirrored; what comes beyond is refused.
MAX_BANS = 1_000_000


class Work(NamedTuple):
    """What to tell the kernel: with ``everything`` exactly the bans of ``add``, else changes."""

    everything: bool
    add: Sequence[Ban]
    remove: Sequence[Ban]


class Mirror:
    """The bans of a feed, without those that ``guard`` refuses."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._bans: dict[Key, Ban] = {}
        # Keys whose ban the kernel does not have as it is, in order of arrival, with what to remove if it is gone.
        self._dirty: dict[Key, Ban] = {}
        self._coming: dict[Key, Ban] = {}
        self._stale = False
        #: Whether a whole snapshot was ever taken: before that nothing is known, and the kernel is left alone.
        self.complete = False

    def __len__(self) -> int:
        return len(self._bans)

    @property
    def due(self) -> bool:
        """Whether there is work."""
        return self._stale or bool(self._dirty)

    def take(self, event: Event) -> None:
        """Bring the mirror up to an event of the feed."""
        match event:
            case Hello():
                self._coming = {}
            case Snapshot(bans, more):
                self._keep(bans, self._coming)
                if not more:
                    self._bans, self._coming = self._coming, {}
                    self.complete = True
                    self.spoil()
            case Change(add, remove):
                for key in remove:
                    gone = self._bans.pop(key, None)
                    if gone is not None:
                        self._dirty[key] = gone
                self._dirty.update(self._keep(add, self._bans))
            case Heartbeat():
                pass

    def spoil(self) -> None:
        """Take it that the kernel holds anything: the next work is everything."""
        self._stale = self.complete
        self._dirty.clear()

    def recheck(self) -> None:
        """Drop bans that the guard refuses by now."""
        refused = [ban for ban in self._bans.values() if self._guard.reason(ban.network) is not None]
        for ban in refused:
            self._refuse(ban)
            self._dirty[ban.key] = self._bans.pop(ban.key)

    def work(self, now: int, most: int) -> Work:
        """Take the work that is due: everything, or up to ``most`` changes. Forgets bans that have ended."""
        if self._stale:
            self._stale = False
            self._dirty.clear()
            self._bans = {key: ban for key, ban in self._bans.items() if ban.active(now)}
            return Work(everything=True, add=list(self._bans.values()), remove=[])
        keys = [key for key, _ in zip(self._dirty, range(most), strict=False)]
        add: list[Ban] = []
        remove: list[Ban] = []
        for key in keys:
            ban = self._dirty.pop(key)
            if key in self._bans:
                add.append(self._bans[key])
            else:
                remove.append(ban)
        return Work(everything=False, add=add, remove=remove)

    def forget(self, now: int) -> None:
        """Forget bans that have ended; the kernel ends them by itself."""
        for key in [key for key, ban in self._bans.items() if not ban.active(now)]:
            del self._bans[key]
            self._dirty.pop(key, None)

    def _keep(self, bans: Iterable[Ban], place: dict[Key, Ban]) -> dict[Key, Ban]:
        kept: dict[Key, Ban] = {}
        for ban in bans:
            if self._guard.reason(ban.network) is not None:
                self._refuse(ban)
            elif len(place) >= MAX_BANS and ban.key not in place:
                _log.error("not banning %s: %d bans are the most", network_text(ban.network), MAX_BANS)
            else:
                key = ban.key
                place[key] = kept[key] = ban
        return kept

    def _refuse(self, ban: Ban) -> None:
        why = self._guard.reason(ban.network)
        _log.warning("refusing to ban %s (jail %s): %s", network_text(ban.network), ban.jail, why)
