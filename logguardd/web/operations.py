"""What the control socket's callers may ask and tell: the daemon's state, its health, bans by hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from logguardd import __version__
from logguardd.consumers import ARCHIVE, DETECTOR
from logguardd.networks import network_text
from logguardd.records import SECOND, Ban
from logguardd.web.control import BanRequest, Component, Health, ProtectedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from logguardd.book import BanBook
    from logguardd.consumers import ArchiveConsumer, DetectorConsumer
    from logguardd.enforcer import Enforcer
    from logguardd.firewall.printing import Printing
    from logguardd.journal.intake import Intake
    from logguardd.journal.sqlite import SqliteJournal
    from logguardd.judge import Judge
    from logguardd.limiter.breaker import Breaker
    from logguardd.limiter.shared_bans import SharedBans
    from logguardd.metrics import Metrics
    from logguardd.web.followers import Followers
    from logguardd.web.inquiry import Inquiry

#: The jail of bans that an operator made.
BY_HAND = "manual"
#: Seconds without a follower before the firewall counts as degraded: both programs start at the same time.
FOLLOWER_GRACE = 10
#: Seconds without an answer after which the archive counts as degraded.
PATIENCE = 3


class Operations:
    """Implements control.Control over the daemon's parts."""

    def __init__(
        self,
        *,
        journal: SqliteJournal,
        intake: Intake,
        archive: ArchiveConsumer,
        detector: DetectorConsumer,
        judge: Judge,
        book: BanBook,
        enforcer: Enforcer,
        inquiry: Inquiry,
        followers: Followers,
        printing: Printing | None,
        shared: SharedBans | None,
        breaker: Breaker | None,
        backend: str,
        listening: Callable[[], Mapping[str, Sequence[tuple[str, int]]]],
        reload: Callable[[], Awaitable[str]],
        metrics: Metrics,
        clock: Callable[[], int],
    ) -> None:
        """``breaker`` is None where hits are counted in memory by configuration; ``backend`` is firewall.backend."""
        self._journal = journal
        self._intake = intake
        self._archive = archive
        self._detector = detector
        self._judge = judge
        self._book = book
        self._enforcer = enforcer
        self._inquiry = inquiry
        self._followers = followers
        self._printing = printing
        self._shared = shared
        self._breaker = breaker
        self._backend = backend
        self._listening = listening
        self._reload = reload
        self._metrics = metrics
        self._clock = clock
        self._started = clock()

    def status(self) -> Mapping[str, object]:
        """Return what the daemon is doing; see control.Control."""
        now = self._clock()
        head = self._journal.head
        started = datetime.fromtimestamp(self._started / SECOND, UTC)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "uptime_seconds": (now - self._started) // SECOND,
            "listening": {
                transport: ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
                for transport, places in self._listening().items()
            },
            "messages": self._messages(),
            "journal": {"head": head, "oldest": self._journal.oldest, "size_bytes": self._journal.size},
            ARCHIVE: {"offset": self._archive.offset, "lag_messages": self._lag(self._archive.offset)},
            DETECTOR: {"offset": self._detector.offset, "lag_messages": self._lag(self._detector.offset)},
            "bans": {"active": len(self._book), "firewall": self._backend, "followers": len(self._followers)},
            "components": {
                name: {"state": component.state, "detail": component.detail}
                for name, component in self.health().components.items()
            },
        }

    def health(self) -> Health:
        """Return how the parts are; see control.Control."""
        components = {
            "journal": self._taking(),
            "archive": self._storing(),
            "detector": Component("up")
            if self._detector.trouble is None
            else Component("down", self._detector.trouble),
            "limiter": self._limiter(),
            "firewall": self._firewall(),
        }
        return Health(components["journal"].state != "down", components)

    def bans(self, *, past: bool = False) -> Sequence[Ban]:
        """Return bans, oldest first; see control.Control."""
        now = self._clock()
        # Until the next round of upkeep the book still holds what has just ended.
        found = [ban for ban in self._book.snapshot() if past or ban.active(now)] + (self._book.past() if past else [])
        return sorted(found, key=lambda ban: ban.since)

    async def why(self, address: str, port: int | None) -> Mapping[str, object]:
        """Return what is known of an address; see control.Control."""
        return await self._inquiry.why(address, port)

    async def ban(self, request: BanRequest) -> Ban:
        """Ban by hand; raise control.ProtectedError for what must never be banned."""
        reason = self._enforcer.protected(request.network)
        if reason is not None:
            raise ProtectedError(f"{network_text(request.network)} is protected: {reason}")
        now = self._clock()
        until = None if request.duration is None else now + request.duration
        count = self._book.times(request.network, request.port) + 1
        ban = Ban(request.network, request.port, BY_HAND, now, until, request.reason or "by hand", count)
        self._enforcer.replace(ban)
        return ban

    async def unban(self, bans: Sequence[Ban]) -> None:
        """End bans and forget the hits that led to them."""
        self._enforcer.end(bans)
        await self._judge.forget(bans)

    async def reload(self) -> str:
        """Read configuration and rules again; see control.Control."""
        return await self._reload()

    def measure(self) -> None:
        """Bring the gauges up to date."""
        metrics = self._metrics
        metrics.journal_head.set(self._journal.head)
        metrics.journal_bytes.set(self._journal.size)
        for name, consumer in ((ARCHIVE, self._archive), (DETECTOR, self._detector)):
            metrics.consumer_offset.labels(name).set(consumer.offset)
            metrics.lag_messages.labels(name).set(self._lag(consumer.offset))

    async def measure_age(self) -> None:
        """Bring the consumers' lag in seconds up to date; that takes a look into the journal."""
        now = self._clock()
        for name, consumer in ((ARCHIVE, self._archive), (DETECTOR, self._detector)):
            waiting = await self._journal.read(max(consumer.offset, self._journal.oldest), 1)
            age = (now - waiting[0].received_at) / SECOND if waiting and self._lag(consumer.offset) else 0.0
            self._metrics.lag_seconds.labels(name).set(max(0.0, age))

    def _lag(self, offset: int) -> int:
        return max(0, self._journal.head - max(offset, self._journal.oldest))

    def _messages(self) -> dict[str, int]:
        found = {}
        for metric in self._metrics.messages.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    found[sample.labels["transport"]] = int(sample.value)
        return found

    def _taking(self) -> Component:
        if self._intake.trouble is not None:
            return Component("down", self._intake.trouble)
        if self._intake.full or self._intake.full_of_datagrams:
            return Component("degraded", "more comes in than it can take: senders wait, datagrams are dropped")
        return Component("up")

    def _storing(self) -> Component:
        if self._archive.trouble is not None:
            return Component("degraded", self._archive.trouble)
        if self._archive.overdue > PATIENCE * SECOND:
            return Component("degraded", f"no answer for {self._archive.overdue // SECOND} s")
        return Component("up")

    def _limiter(self) -> Component:
        if self._breaker is None:
            return Component("up", "memory")
        if self._breaker.state != "closed":
            return Component("degraded", f"counting in memory: {self._breaker.trouble}")
        if self._shared is not None and self._shared.trouble is not None:
            return Component("degraded", f"bans are not shared: {self._shared.trouble}")
        return Component("up", "redis")

    def _firewall(self) -> Component:
        hosts = len(self._followers) - self._followers.local
        elsewhere = f"{hosts} other hosts follow" if hosts else ""
        if self._printing is not None:
            if self._printing.trouble is not None:
                return Component("degraded", self._printing.trouble)
            if self._followers.local:
                detail = "print: commands are written; logguardd-firewall follows"
                return Component("up", f"{detail}; {elsewhere}" if elsewhere else detail)
            detail = "print: commands are written, nothing is blocked"
            return Component("up", f"{detail} here; {elsewhere}" if elsewhere else detail)
        if self._followers.local:
            return Component("up", f"following; {elsewhere}" if elsewhere else "following")
        if self._clock() - self._started < FOLLOWER_GRACE * SECOND:
            return Component("up", "waiting for logguardd-firewall")
        detail = "logguardd-firewall is not connected: nothing is blocked"
        return Component("degraded", f"{detail} here; {elsewhere}" if elsewhere else detail)
