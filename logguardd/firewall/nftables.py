"""Bans in nftables: the table ``inet logguardd``, owned whole (nft(8)).

A chain at input and one at forward, before filter, jump to ``blocked``, which drops what comes from a banned network:
new packets and those of established connections alike. Elements carry timeouts, so the kernel ends a ban by itself.

Every set is a hash: ``banned4``, ``banned6`` (addresses), ``banned4_ports``, ``banned6_ports`` (address . port, tcp
and udp), and for prefixes one set a length, ``nets6_64``, ``nets4_24_ports`` and so on, looked up by the masked
source address and made when first needed. An interval set would hold every length in one, but it refuses or merges
overlapping prefixes (and with them their timeouts), and adding one element to 100,000 takes it seconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from logguardd.firewall.commands import Command
from logguardd.firewall.nft_listing import has_chains, read_table
from logguardd.firewall.nft_script import BASE, DAY, LONG, TABLE, Edit, change, create, element_of, remove_table
from logguardd.firewall.timeouts import LONGEST, seconds_left
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from logguardd.firewall.commands import Runner
    from logguardd.firewall.nft_listing import Listing
    from logguardd.firewall.nft_script import Element, SetKind
    from logguardd.records import Ban

_LIST = Command(("nft", "-j", "list", "table", *TABLE.split()))
_CHAINS = Command(("nft", "-j", "list", "chains", "inet"))
# A listing is in whole seconds and takes a second itself for 100,000 elements.
_TOLERANCE = 5
# With less left, the kernel may have expired it already.
_SURE = 10 * SECOND
# So many elements are listed in some 50 ms.
_FEW = 5000
# The kernel resizes a hash within some tenths of a second.
_LOOKS = 5
_SETTLING = 0.3


class Nftables:
    """The nftables backend; see firewall.Firewall."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._kinds: set[SetKind] = set()
        # What was put into the kernel, until when; expired ones are swept now and then.
        self._held: dict[Element, int | None] = {}
        self._sweep_at = 1024

    async def sync(self, bans: Sequence[Ban], now: int) -> None:
        """Make the table hold exactly the active ``bans``; see firewall.Firewall.

        What is in the kernel already and right stays untouched. A table that is missing or is not laid out as ours is
        replaced, in the same transaction that removes it.
        """
        wanted = {element_of(*ban.key): ban.until for ban in bans if ban.active(now)}
        listing = await self._list()
        if listing is None:
            commands = create(_put(element, until, now) for element, until in wanted.items())
            kinds = set(BASE)
        else:
            commands = change(_differences(listing, wanted, now), listing.kinds)
            kinds = set(listing.kinds)
        for command in commands:
            await self._runner.run(command)
        self._held = wanted
        self._kinds = kinds.union(kind for kind, _ in wanted)

    async def apply(self, add: Sequence[Ban], remove: Sequence[Ban], now: int) -> None:
        """Add, extend and remove elements in one transaction (one for 3,000 steps); see firewall.Firewall."""
        edits: dict[Element, Edit] = {}
        put: dict[Element, int | None] = {}
        for ban in remove:
            element = element_of(*ban.key)
            if element in self._held:
                edits[element] = self._delete(element, now)
        for ban in add:
            element = element_of(*ban.key)
            if ban.active(now):
                put[element] = ban.until
                edits[element] = self._extend(element, ban.until, now)
            elif element in self._held:
                edits[element] = self._delete(element, now)
        for command in change(edits.values(), self._kinds):
            await self._runner.run(command)
        for element in edits:
            self._held.pop(element, None)
        self._held |= put
        self._kinds.update(kind for kind, _ in put)
        self._sweep(now)

    async def tick(self, now: int) -> None:
        """Do nothing: the kernel does it all."""

    async def intact(self, now: int) -> bool:
        """Whether our chains are still there (a few milliseconds), and with few bans whether rules and elements are as we left them."""
        text = await self._runner.ask(_CHAINS)
        if text is None:
            return True
        if not has_chains(text):
            return False
        # nft reads all elements even where it lists none.
        if len(self._held) > _FEW:
            return True
        listing = await self._list()
        return listing is not None and _as_left(listing, self._held, now)

    async def flush(self) -> None:
        """Remove the table and with it every ban."""
        await self._runner.run(remove_table())
        self._held, self._kinds = {}, set()

    async def show(self) -> str:
        """Return the table as nft prints it, "" if there is none."""
        return await self._runner.ask(Command(("nft", "list", "table", *TABLE.split()))) or ""

    async def close(self) -> None:
        """Release nothing: bans stay in the kernel until they expire."""

    async def _list(self) -> Listing | None:
        """Return what the kernel has; None if it has no table of ours, or that cannot be known."""
        for _ in range(_LOOKS):
            text = await self._runner.ask(_LIST)
            listing = read_table(text) if text is not None else None
            if listing is None or listing.settled:
                return listing
            await asyncio.sleep(_SETTLING)
        return None

    def _delete(self, element: Element, now: int) -> Edit:
        return Edit(element, ensure=not self._surely_held(element, now), delete=True)

    def _extend(self, element: Element, until: int | None, now: int) -> Edit:
        edit = _put(element, until, now)
        if element in self._held:
            edit = edit._replace(ensure=not self._surely_held(element, now), delete=True)
        return edit

    def _surely_held(self, element: Element, now: int) -> bool:
        until = self._held[element]
        return until is None or until > now + _SURE

    def _sweep(self, now: int) -> None:
        if len(self._held) > self._sweep_at:
            self._held = {
                element: until for element, until in self._held.items() if until is None or until > now - _SURE
            }
            self._sweep_at = 1024 + 2 * len(self._held)


def _put(element: Element, until: int | None, now: int) -> Edit:
    return Edit(element, add=True, seconds=seconds_left(until, now))


def _differences(listing: Listing, wanted: dict[Element, int | None], now: int) -> Iterable[Edit]:
    """Yield what makes the listed elements the wanted ones: what is missing first, then what is wrong or too many."""
    for element, until in wanted.items():
        if element not in listing.elements:
            yield _put(element, until, now)
    for element, left in listing.elements.items():
        sure = left is None or left > _TOLERANCE
        if element not in wanted:
            yield Edit(element, ensure=not sure, delete=True)
        elif not _near(left, seconds_left(wanted[element], now)):
            yield _put(element, wanted[element], now)._replace(ensure=not sure, delete=True)


def _as_left(listing: Listing, held: dict[Element, int | None], now: int) -> bool:
    """Whether the kernel has what was put into it, with the time that it should have left, and nothing else."""
    for element, until in held.items():
        if element not in listing.elements and (until is None or until > now + _SURE):
            return False
    for element, left in listing.elements.items():
        over = left is not None and left <= _TOLERANCE
        seconds = seconds_left(held[element], now) if element in held else 0
        if not over and not _near(left, seconds):
            return False
    return True


def _near(left: int | None, seconds: int | None) -> bool:
    if left is None or seconds is None:
        return left is seconds
    if seconds >= LONGEST:
        return left > LONGEST // 2
    return abs(left - seconds) <= _TOLERANCE + (DAY if seconds >= LONG else 0)
