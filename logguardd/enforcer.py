"""The one place where bans begin and end: book, blacklist, other daemons and firewall followers are kept in step.

The book and the followers change in the same turn of the event loop. The blacklist and Redis follow as they can: what
they have not taken yet is kept, the newest state of each ban only, and given to them when they are back.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from logguardd.book import EVICTED
from logguardd.errors import LogguarddError, UnavailableError
from logguardd.networks import network_text
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logguardd.allowlist import Allowlist
    from logguardd.archive import Archive
    from logguardd.book import BanBook, Change
    from logguardd.metrics import Metrics
    from logguardd.records import Ban, Network

_LOG = logging.getLogger(__name__)

#: Bans read from the blacklist at start: those in force, and past ones for escalation.
LOADED = 200_000
#: Bans made or ended at once that have a line in the log each.
LOGGED = 20
#: Bans that wait for the blacklist at most; beyond, the oldest are not stored.
UNSAVED = 500_000
#: Seconds between two tries to store bans.
RETRY = 1.0


class Publisher(Protocol):
    """Somebody else who is told of every change of ours: the other daemons, a printer."""

    def publish(self, add: Iterable[Ban], remove: Iterable[Ban] = ()) -> None:
        """Take note, without waiting; a ban in ``add`` replaces one of its key in ``remove``."""


class Enforcer:
    """Makes, extends, ends and expires bans. Called from the event loop."""

    def __init__(
        self,
        book: BanBook,
        allowlist: Allowlist,
        archive: Archive,
        metrics: Metrics,
        *,
        clock: Callable[[], int],
        follow: Callable[[Iterable[Ban], Iterable[tuple[Network, int]]], None],
    ) -> None:
        """``follow`` publishes bans made and keys of bans ended to the firewall; ``clock`` gives microseconds."""
        self._book = book
        self._allowlist = allowlist
        self._archive = archive
        self._metrics = metrics
        self._clock = clock
        self._follow = follow
        self.publishers: list[Publisher] = []
        #: Counts changes of the bans in force, for whoever keeps a copy.
        self.version = 0
        self._loaded = False
        # Keys of the bans of before the start that did not come from the blacklist.
        self._restored: set[tuple[Network, int]] = set()
        self._to_save: dict[tuple[Network, int], Ban] = {}
        self._to_end: dict[tuple[Network, int], Ban] = {}
        # What of this is on its way.
        self._ending: dict[tuple[Network, int], Ban] = {}
        self._work = asyncio.Event()
        self._prevented: dict[tuple[Network, int], int] = {}

    def begin(self, bans: Iterable[Ban]) -> list[Ban]:
        """Put bans into force, except of what is protected or banned already; return those made."""
        now = self._clock()
        changes: list[Change] = []
        for ban in bans:
            reason = self._allowlist.reason(ban.network, now)
            if reason is not None:
                self._prevent(ban, reason, now)
            elif ban.active(now) and (change := self._book.add(ban)) is not None:
                changes.append(change)
        self._changed(changes, ())
        made = [change.ban for change in changes]
        for ban in made:
            self._metrics.bans.labels(ban.jail).inc()
        _tell(logging.WARNING, "ban", made)
        return made

    def protected(self, network: Network) -> str | None:
        """Return why the network must not be banned, None if it may be."""
        return self._allowlist.reason(network, self._clock())

    def replace(self, ban: Ban) -> None:
        """Put an operator's ban into force, whatever ban of the same network and port there was."""
        former = self._book.get(*ban.key)
        self._changed([self._book.replace(ban)], (), share=(former,) if former else ())
        self._metrics.bans.labels(ban.jail).inc()
        _tell(logging.WARNING, "ban", [ban])

    def end(self, bans: Iterable[Ban]) -> None:
        """End bans before their time, here and at the other daemons."""
        ended = self._remove(bans)
        self._changed((), ended, share=ended)
        _tell(logging.WARNING, "unban", ended)

    def _remove(self, bans: Iterable[Ban]) -> list[Ban]:
        now = self._clock()
        return [ended for ban in bans for ended in self._book.remove(ban.network, ban.port, now)]

    def foreign(self, add: Sequence[Ban], remove: Sequence[Ban]) -> None:
        """Take over what another daemon did; our own allowlist counts here too."""
        now = self._clock()
        # A ban that began after what they lifted had ended is another one.
        lifted = [ban for ban in remove if (held := self._book.get(*ban.key)) and held.since <= (ban.until or now)]
        ended = self._remove(lifted)
        wanted = [ban for ban in add if ban.active(now) and self._allowlist.reason(ban.network, now) is None]
        changes = [change for ban in wanted if (change := self._book.extend(ban)) is not None]
        self._changed(changes, ended, ours=False)
        if changes or ended:
            _LOG.info("other daemons made %d bans and ended %d", len(changes), len(ended))

    def recheck(self) -> None:
        """End bans of what has become protected here since they were made; other daemons have their own allowlist."""
        ended = self._remove([ban for ban in self._book.snapshot() if self.protected(ban.network) is not None])
        self._changed((), ended)
        _tell(logging.WARNING, "protected now, unban", ended)

    def expire(self) -> None:
        """Note which bans have ended by their time; the kernel has expired them by itself."""
        expired = self._book.expire(self._clock())
        if expired:
            self._to_end |= {ban.key: ban for ban in expired}
            self._bound()
            self._work.set()
            self.version += 1
            self._metrics.bans_active.set(len(self._book))

    def restore(self, bans: Iterable[Ban], lifted: Iterable[Ban] = ()) -> None:
        """Put bans into force that were in force when the daemon stopped; their being stored is somebody else's.

        ``lifted`` is what ``lifted`` gave then.
        """
        now = self._clock()
        self._to_end |= {ban.key: ban for ban in lifted}
        for ban in bans:
            if ban.active(now) and self._allowlist.reason(ban.network, now) is None:
                self._book.add(ban)
                self._restored.add(ban.key)
        self._metrics.bans_active.set(len(self._book))

    def lifted(self) -> list[Ban]:
        """Return the bans that ended before their time without the blacklist knowing it yet."""
        now = self._clock()
        ended = self._ending | self._to_end
        return [ban for ban in ended.values() if ban.active(now) and self._book.get(*ban.key) is None]

    async def connected(self) -> None:
        """Read the blacklist, the first time that the archive can be reached; errors.UnavailableError if it cannot."""
        if not self._loaded:
            self._take_over(await self._archive.load_bans(LOADED))
            self._loaded = True
        self._work.set()

    def _take_over(self, stored: Iterable[Ban]) -> None:
        """Put stored bans into the book, those in force also into force, unless newer ones of ours are."""
        now = self._clock()
        past, changes, lifted = [], [], []
        newer: dict[tuple[Network, int], Ban] = {}
        known = set()
        for ban in stored:
            known.add(ban.key)
            ours = self._to_save.get(ban.key) or self._book.get(*ban.key)
            ended = self._to_end.get(ban.key)
            if ours is not None and ours.since > ban.since:
                newer[ban.key] = self._counted(ours, ban.count)
            elif ours is None and ended is not None and ban.since <= ended.since and ban.active(now):
                past.append(replace(ban, until=now))
            elif not ban.active(now):
                past.append(ban)
                if ours is not None and ours.since == ban.since:
                    lifted.append(ours)
            elif self._allowlist.reason(ban.network, now) is not None:
                self._to_end[ban.key] = ban
            elif ban.key not in self._to_save:
                changes.append(self._book.replace(ban))
        gone = self._remove(lifted)
        self._to_end |= {ban.key: ban for ban in past if self._book.get(*ban.key) is None}
        over = [ban for key, ban in newer.items() if self._book.get(*key) is None]
        self._book.load([*past, *(replace(ban, until=now) if ban.active(now) else ban for ban in over)], now)
        made = [self._book.replace(ban) for key, ban in newer.items() if self._book.get(*key) is not None]
        # What was restored from the file beside the journal may never have reached the blacklist.
        self._to_save = {ban.key: ban for ban in self._book.snapshot() if ban.key not in known} | self._to_save | newer
        self._changed([*changes, *made], gone, stored=True)
        _LOG.info("blacklist: %d bans in force, %d past ones remembered", len(changes), len(past))

    def _counted(self, ours: Ban, stored: int) -> Ban:
        """Return our ban with its right count, ``stored`` being how many there were before it by the blacklist.

        Without the blacklist the count may have begun anew.
        """
        knew = ours.key in self._restored and ours.count > stored
        return ours if knew else replace(ours, count=stored + ours.count)

    async def run(self) -> None:
        """Keep the blacklist in step until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self.store()
            except UnavailableError:
                await asyncio.sleep(RETRY)
                self._work.set()

    async def store(self) -> None:
        """Give the blacklist what it lacks; raise errors.UnavailableError, keeping it for later."""
        save, end = self._to_save, self._to_end
        self._to_save, self._to_end, self._ending = {}, {}, end
        try:
            if save:
                await self._archive.save_bans(list(save.values()))
                save = {}
            if end:
                await self._archive.end_bans(list(end.values()))
        except LogguarddError:
            # What has happened since is newer; an end that was to follow its own beginning still is.
            self._to_end = {key: ban for key, ban in end.items() if key not in self._to_save} | self._to_end
            self._to_save = save | self._to_save
            raise
        self._ending = {}

    def _changed(
        self,
        changes: Sequence[Change],
        ended: Sequence[Ban],
        *,
        share: Sequence[Ban] = (),
        ours: bool = True,
        stored: bool = False,
    ) -> None:
        """Tell everybody; of the bans that ended, ``share`` are to end at other daemons too.

        ``ours`` is False for what came from another daemon, ``stored`` is True for what is in the blacklist already.
        """
        if not changes and not ended:
            return
        evicted = [change.evicted for change in changes if change.evicted is not None]
        if evicted:
            _LOG.error("%d bans were dropped: %s", len(evicted), EVICTED)
            self._metrics.dropped.labels("ban-evicted").inc(len(evicted))
        added, removed = [change.ban for change in changes], [*ended, *evicted]
        self._follow(added, [ban.key for ban in removed])
        for ban in added:
            self._to_end.pop(ban.key, None)
            if not stored:
                self._to_save[ban.key] = ban
        self._to_end |= {ban.key: ban for ban in removed}
        self._bound()
        self._work.set()
        self.version += 1
        self._metrics.bans_active.set(len(self._book))
        for publisher in self.publishers if ours else ():
            publisher.publish(added, share)

    def _bound(self) -> None:
        """Give up storing the oldest bans where the blacklist has been away for too many."""
        for waiting in (self._to_save, self._to_end):
            lost = len(waiting) - UNSAVED
            if lost > 0:
                for key in list(islice(waiting, lost)):
                    del waiting[key]
                _LOG.error("%d changes of bans will not be in the blacklist: it has been away for too long", lost)
                self._metrics.dropped.labels("ban-unsaved").inc(lost)

    def _prevent(self, ban: Ban, reason: str, now: int) -> None:
        """Count a ban that must not be; say so once a minute for each."""
        self._metrics.bans_prevented.labels(reason).inc()
        if now - self._prevented.get(ban.key, 0) < 60 * SECOND:
            return
        if len(self._prevented) > 10_000:  # noqa: PLR2004 - a bound like any other
            self._prevented.clear()
        self._prevented[ban.key] = now
        _LOG.warning("no ban of %s (%s): %s", network_text(ban.network), reason, ban.reason)


def _tell(level: int, what: str, bans: Sequence[Ban]) -> None:
    """Log bans made or ended, a line each up to a bound."""
    for ban in bans[:LOGGED]:
        _LOG.log(
            level, "%s %s%s: %s", what, network_text(ban.network), _port(ban), ban.reason, extra={"unlimited": True}
        )
    if len(bans) > LOGGED:
        _LOG.log(level, "%s: %d more at once, see logguardctl bans", what, len(bans) - LOGGED)


def _port(ban: Ban) -> str:
    return f" port {ban.port}" if ban.port else ""
