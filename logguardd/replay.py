"""History judged once more: which bans these rules and jails would have made of what was received. Bans nobody."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from logguardd import parsing
from logguardd.book import BanBook
from logguardd.consumers import SLICE, Parsed, slices
from logguardd.detection import Detector
from logguardd.jails import counts
from logguardd.judge import Judge
from logguardd.limiter.memory import MemoryLimiter
from logguardd.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import tzinfo

    from logguardd.allowlist import Allowlist
    from logguardd.jails import Jail
    from logguardd.records import Ban, Batch
    from logguardd.rules import RuleSet

#: Bans that are kept to be shown; beyond, they are only counted.
KEPT = 100_000


class Prevented(NamedTuple):
    """A ban that would not have been made, and why: its network is protected."""

    ban: Ban
    reason: str


class Replay:
    """Judges batches in order, as the daemon did or would have; time is the batches' receive time."""

    def __init__(
        self,
        rules: RuleSet,
        jails: Sequence[Jail],
        allowlist: Allowlist,
        *,
        timezone: tzinfo,
        max_clock_skew: int,
        journal_id: str = "replay",
    ) -> None:
        """``timezone`` is for stamps that carry none, ``max_clock_skew`` in microseconds."""
        self._rules = rules
        self._allowlist = allowlist
        self._timezone = timezone
        self._max_clock_skew = max_clock_skew
        self._book = BanBook()
        self._metrics = Metrics()
        self._now = 0
        self._judge = Judge(
            jails,
            detector=Detector(counts(jails)),
            limiter=MemoryLimiter(metrics=self._metrics),
            allowlist=allowlist,
            book=self._book,
            enforcer=self,
            metrics=self._metrics,
            journal_id=journal_id,
            clock=lambda: self._now,
        )
        #: Messages taken, those without an error of syslog's format, and those that each rule claimed.
        self.messages = self.unparsed = 0
        self.claimed: Counter[str] = Counter()
        #: Receive times of the first and the last message.
        self.first = self.last = 0
        #: Bans that would have been made, in order, KEPT at most, and how many in all.
        self.bans: list[Ban] = []
        self.made = 0
        #: The first ban of each network and port that something protects.
        self.prevented: dict[tuple[object, int], Prevented] = {}

    async def take(self, batch: Batch) -> None:
        """Judge a batch."""
        self.first = min(self.first or batch.received_at, batch.received_at)
        self.last = self._now = max(self._now, batch.received_at)
        self._book.expire(self._now)
        for part in slices(batch, batch.offset, SLICE):
            records = parsing.parse(part, timezone=self._timezone, max_clock_skew=self._max_clock_skew)
            matches = self._rules.match(records)
            self.messages += part.count
            self.unparsed += sum(record.parse_error is not None for record in records)
            self.claimed.update(match.rule.name for match in matches if match is not None and match.rule is not None)
            await self._judge.judge([Parsed(part, records, matches)])

    def begin(self, bans: Iterable[Ban]) -> list[Ban]:
        """Note bans instead of making them (judge.Court)."""
        made = []
        for ban in bans:
            reason = self._allowlist.reason(ban.network, self._now)
            if reason is not None:
                if len(self.prevented) < KEPT:
                    self.prevented.setdefault(ban.key, Prevented(ban, reason))
            elif ban.active(self._now) and self._book.add(ban) is not None:
                made.append(ban)
        self.made += len(made)
        self.bans += made[: KEPT - len(self.bans)]
        return made

    @property
    def hits(self) -> dict[str, int]:
        """How many hits there were of each rule that some jail counts."""
        return {
            sample.labels["rule"]: int(sample.value)
            for metric in self._metrics.hits.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
