"""What is refused or closed by us: counted by reason, and told in the log at a bounded rate."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logguardd.metrics import Metrics

_log = logging.getLogger(__name__)

#: Seconds between two log lines of one reason.
QUIET = 10.0
# Reasons that are the order of the day; the others are for the operator to look at.
_USUAL = frozenset({"idle", "disconnected", "stopping"})


class Refusals:
    """Counts every refused connection; of each reason logs the first in ten seconds, with the number left untold since then."""

    def __init__(self, transport: str, metrics: Metrics) -> None:
        self._transport = transport
        self._refused = metrics.connections_refused
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def refuse(self, reason: str, peer: str, detail: str) -> None:
        """Count one under ``reason`` (a metric label, so from a fixed set) and perhaps log peer and detail."""
        self._refused.labels(self._transport, reason).inc()
        self.tell(reason, peer, detail)

    def tell(self, reason: str, peer: str, detail: str, number: int = 1) -> None:
        """Perhaps log peer and detail of something that is counted elsewhere, ``number`` times."""
        now = time.monotonic()
        if now - self._told.get(reason, -QUIET) < QUIET:
            self._untold[reason] = self._untold.get(reason, 0) + number
            return
        self._told[reason] = now
        untold = self._untold.pop(reason, 0) + number - 1
        more = f" ({untold} more since the last such line)" if untold else ""
        level = logging.INFO if reason in _USUAL else logging.WARNING
        _log.log(level, "%s: %s from %s: %s%s", self._transport, reason, peer, detail, more)
