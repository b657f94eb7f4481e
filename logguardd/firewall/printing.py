"""The print backend inside the daemon: it needs no privilege, so it needs no program of its own."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from logguardd.errors import FirewallError
from logguardd.records import Ban

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from logguardd.firewall import Firewall
    from logguardd.records import Network

_LOG = logging.getLogger(__name__)

#: Seconds after a failure before everything is written again.
_RETRY = 5.0


class Printing:
    """Keeps ``firewall`` in step with the bans in force, as a follower elsewhere would."""

    def __init__(self, firewall: Firewall, bans: Callable[[], Iterable[Ban]], clock: Callable[[], int]) -> None:
        """``bans`` gives those in force, ``clock`` microseconds."""
        self._firewall = firewall
        self._bans = bans
        self._clock = clock
        self._add: dict[tuple[Network, int], Ban] = {}
        self._remove: dict[tuple[Network, int], Ban] = {}
        self._work = asyncio.Event()
        #: None while it works, else what went wrong.
        self.trouble: str | None = None

    def publish(self, add: Iterable[Ban], remove: Iterable[tuple[Network, int]]) -> None:
        """Note a change: bans that were made or extended, keys of bans that ended early."""
        for key in remove:
            self._add.pop(key, None)
            self._remove[key] = Ban(*key, "", 0, 0, "")
        self._add |= {ban.key: ban for ban in add}
        self._work.set()

    async def run(self) -> None:
        """Write changes until cancelled."""
        while True:
            try:
                await self._keep()
            except FirewallError as error:
                if self.trouble != str(error):
                    _LOG.error("firewall: %s; trying again", error)
                self.trouble = str(error)
                await asyncio.sleep(_RETRY)

    async def _keep(self) -> None:
        self._add.clear()
        self._remove.clear()
        await self._firewall.sync(list(self._bans()), self._clock())
        self.trouble = None
        while True:
            await self._work.wait()
            self._work.clear()
            add, remove = list(self._add.values()), list(self._remove.values())
            self._add.clear()
            self._remove.clear()
            if add or remove:
                await self._firewall.apply(add, remove, self._clock())
