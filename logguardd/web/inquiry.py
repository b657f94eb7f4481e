"""Why an address is banned, or is not: everything that the daemon knows of it, in one answer."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING

from logguardd.errors import UnavailableError
from logguardd.networks import network_text
from logguardd.records import SECOND
from logguardd.web.control import ban_json, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logguardd.archive import Archive
    from logguardd.archive.rows import About
    from logguardd.book import BanBook
    from logguardd.enforcer import Enforcer
    from logguardd.judge import Judge

#: Messages shown, the newest ones, and seconds that the archive may take to find them.
MESSAGES, PATIENCE = 10, 10.0


class Inquiry:
    """Asks the book, the jails, the allowlist and the archive about one address."""

    def __init__(
        self, *, book: BanBook, enforcer: Enforcer, judge: Judge, archive: Archive, clock: Callable[[], int]
    ) -> None:
        self._book = book
        self._enforcer = enforcer
        self._judge = judge
        self._archive = archive
        self._clock = clock

    async def why(self, address: str, port: int | None) -> Mapping[str, object]:
        """Return what is known of the address (normalised text), ready for JSON; see control.Control."""
        network = ip_network(address)
        now = self._clock()
        every = [*self._book.snapshot(), *self._book.past()]
        bans = [
            ban
            for ban in every
            if ban.network.version == network.version
            and ban.network.overlaps(network)
            and (port is None or ban.port in (0, port))
        ]
        bans.sort(key=lambda ban: (not ban.active(now), -ban.since))
        messages, trouble = await self._messages(address)
        ports = {0, *(one.port for one in messages if one.port), *(ban.port for ban in bans)}
        standing = await self._judge.standing(address, sorted(ports) if port is None else [port])
        return {
            "address": address,
            "banned": any(ban.active(now) for ban in bans),
            "protected": self._enforcer.protected(network),
            "bans": [ban_json(ban, now) for ban in bans],
            "counting": [
                {
                    "jail": group.jail.name,
                    "network": network_text(group.network),
                    "port": group.port,
                    "hits": hits,
                    "threshold": group.jail.threshold,
                    "window_seconds": group.jail.window / SECOND,
                }
                for group, hits in standing
                if hits or not group.port or port is not None
            ],
            "messages": [_message(one) for one in messages],
            "archive": trouble,
        }

    async def _messages(self, address: str) -> tuple[list[About], str | None]:
        """Return the newest messages about the address, and what kept the archive from telling."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._archive.about(address, MESSAGES), None
        except TimeoutError:
            return [], f"no answer within {PATIENCE:.0f} s"
        except UnavailableError as error:
            return [], str(error)


def _message(one: About) -> dict[str, object]:
    return {
        "received": stamp(one.received_at),
        "sender": one.client_id,
        "program": one.service_name,
        "rule": one.rule,
        "tags": one.action.split(",") if one.action else [],
        "port": one.port,
        "message": one.message,
    }
