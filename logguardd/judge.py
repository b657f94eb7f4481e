"""From parsed batches to bans: hits, tallies, the limiter's verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from logguardd import jails as counting
from logguardd.evidence import Evidence
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from logguardd.allowlist import Allowlist
    from logguardd.book import BanBook
    from logguardd.consumers import Parsed
    from logguardd.detection import Detector
    from logguardd.jails import Group, Jail
    from logguardd.limiter import Limiter
    from logguardd.metrics import Metrics
    from logguardd.records import Ban, Hit


class Court(Protocol):
    """Who puts bans into force: enforcer.Enforcer, and a replay, which only notes them."""

    def begin(self, bans: Iterable[Ban]) -> list[Ban]:
        """Put bans into force, except of what is protected or banned already; return those made."""


class Judge:
    """Counts the hits of parsed batches and has banned what exceeds."""

    def __init__(
        self,
        jails: Sequence[Jail],
        *,
        detector: Detector,
        limiter: Limiter,
        allowlist: Allowlist,
        book: BanBook,
        enforcer: Court,
        metrics: Metrics,
        journal_id: str,
        clock: Callable[[], int],
    ) -> None:
        """``limiter`` must not raise UnavailableError: it is memory, or a breaker with memory behind it."""
        self._detector = detector
        self._limiter = limiter
        self._allowlist = allowlist
        self._book = book
        self._enforcer = enforcer
        self._metrics = metrics
        self._journal_id = journal_id
        self._clock = clock
        self._evidence = Evidence()
        self.use(jails)

    def use(self, jails: Sequence[Jail]) -> None:
        """Judge by these jails from now on."""
        self._jails = tuple(jails)
        self._detector.use(counting.counts(self._jails))

    async def judge(self, parsed: Sequence[Parsed]) -> None:
        """Count the hits of batches in journal order; counting the same ones again changes nothing."""
        hits: list[Hit] = []
        for batch, records, matches in parsed:
            self._allowlist.saw_sender(batch.origin.peer, batch.received_at)
            found = self._detector.hits(batch, records, matches)
            if found:
                hits += found
        if not hits:
            return
        self._count(hits)
        groups = counting.tally(self._jails, hits, self._journal_id)
        self._evidence.note(groups)
        verdicts = await self._limiter.count([group.tally for group in groups])
        bans = []
        for group, verdict in zip(groups, verdicts, strict=True):
            if verdict.exceeded_at >= 0 and self._book.get(group.network, group.port) is None:
                times = self._book.times(group.network, group.port)
                bans.append(counting.ban(group, verdict, times, self._evidence.of(group)))
        if bans:
            self._observe(self._enforcer.begin(bans))

    async def standing(self, address: str, ports: Iterable[int]) -> list[tuple[Group, int]]:
        """Return what every jail counts of an address (for all ports, or for each of these) and how many hits there are."""
        groups = counting.groups_of(self._jails, address, ports)
        hits = await self._limiter.hits([group.tally for group in groups], self._clock())
        return list(zip(groups, hits, strict=True))

    async def forget(self, bans: Sequence[Ban]) -> None:
        """Forget the hits of these bans' networks, in every jail, so that the next one does not ban again at once."""
        # Also where the ban was made by hand, or by a jail that is no more.
        keys = list(dict.fromkeys(key for ban in bans for key in counting.keys_of(ban, self._jails)))
        self._evidence.forget(keys)
        await self._limiter.forget(keys)

    def _count(self, hits: Sequence[Hit]) -> None:
        by_rule: dict[str, int] = {}
        for hit in hits:
            by_rule[hit.rule] = by_rule.get(hit.rule, 0) + hit.times
        for rule, number in by_rule.items():
            self._metrics.hits.labels(rule).inc(number)

    def _observe(self, made: Sequence[Ban]) -> None:
        now = self._clock()
        for ban in made:
            self._metrics.ban_seconds.observe(max(0, now - ban.since) / SECOND)
