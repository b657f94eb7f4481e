"""Bans to kernel sets: nftables, iptables, or printed; and the privileged program that follows the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.records import Ban


class Firewall(Protocol):
    """A backend that keeps the kernel's sets in step with bans. Raises errors.FirewallError with the tool's message."""

    async def sync(self, bans: Sequence[Ban], now: int) -> None:
        """Make table, chains and sets where missing and make the sets hold exactly ``bans`` (active at ``now``)."""

    async def apply(self, add: Sequence[Ban], remove: Sequence[Ban], now: int) -> None:
        """Add or extend and remove elements, one transaction; the kernel expires them at ``until``."""

    async def tick(self, now: int) -> None:
        """Do what the kernel does not do by itself (delete expired rules, renew capped timeouts); about once a second."""

    async def intact(self, now: int) -> bool:
        """Whether what sync() made is still as it was; False after somebody else changed it, or the clock was set: the caller syncs again.

        Looks as far as a look is cheap: at chains and rules, and at every element of sets unless there are many.
        """

    async def close(self) -> None:
        """Release what the backend holds; bans stay in the kernel until they expire."""
