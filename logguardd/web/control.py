"""What operators and firewall followers may ask of the daemon: the interface behind the control socket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from logguardd.errors import LogguarddError
from logguardd.networks import network_text
from logguardd.records import SECOND, Ban, Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LAST = 253402300799 * SECOND  # 9999-12-31, datetime's end


class ProtectedError(LogguarddError):
    """The network must not be banned; the message says why (allowlist, own address, sender, ...)."""


@dataclass(frozen=True, slots=True)
class Component:
    """How a part of the daemon is: ``state`` is "up", "degraded" or "down", ``detail`` says more, or nothing."""

    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """``ready`` says whether messages can be received and journaled; ``components`` are by name."""

    ready: bool
    components: Mapping[str, Component]


@dataclass(frozen=True, slots=True)
class BanRequest:
    """What an operator wants banned: ``duration`` in microseconds, None for ever; ``port`` 0 is all ports."""

    network: Network
    port: int
    duration: int | None
    reason: str


class Control(Protocol):
    """What the daemon lets itself be asked and told; app.py implements it. Called from the event loop.

    Asynchronous methods may raise errors.UnavailableError (answered with 503) and errors.LogguarddError (500).
    """

    def status(self) -> Mapping[str, object]:
        """Return what the daemon is doing, ready for JSON.

        ``logguardctl status`` shows whatever is in it: plain values in one table, and a table for each mapping. It
        knows these keys: "version", "pid", "started" (RFC 3339), "uptime_seconds", "components" (name to {"state",
        "detail"}).
        """

    def health(self) -> Health:
        """Return how the parts are."""

    def bans(self, *, past: bool = False) -> Sequence[Ban]:
        """Return the bans in force, with ``past`` also those that ended and are still remembered; oldest first."""

    async def why(self, address: str, port: int | None) -> Mapping[str, object]:
        """Return what is known of an address (with ``port`` only of that destination port), ready for JSON.

        "banned", "protected" (why it never will be, or null), "bans" in force and past, "counting" (what each jail has
        counted within its window), "messages" (the newest ones), "archive" (what kept it from telling those, or null).
        """

    async def ban(self, request: BanRequest) -> Ban:
        """Ban, or change the ban of the same network and port; raise ProtectedError if it must never be banned."""

    async def unban(self, bans: Sequence[Ban]) -> None:
        """End these bans, and forget the hits that led to them."""

    async def reload(self) -> str:
        """Read configuration and rules again; return what changed in a line. Raise ConfigError: all stays as it was."""


def ban_json(ban: Ban, now: int) -> dict[str, object]:
    """Return a ban as the control socket shows it; times in RFC 3339, UTC."""
    return {
        "network": network_text(ban.network),
        "port": ban.port,
        "jail": ban.jail,
        "since": stamp(ban.since),
        "until": None if ban.until is None else stamp(ban.until),
        "remaining_seconds": None if ban.until is None else max(0, (ban.until - now) // SECOND),
        "active": ban.active(now),
        "count": ban.count,
        "reason": ban.reason,
        "evidence": dict(ban.evidence),
    }


def stamp(microseconds: int) -> str:
    """Return a time in RFC 3339, UTC, to the millisecond."""
    moment = datetime.fromtimestamp(min(microseconds, _LAST) / SECOND, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
