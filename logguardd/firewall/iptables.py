"""Bans as plain rules of iptables and ip6tables, for machines without ipset (iptables(8), iptables-restore(8)).

Each ban is a rule of the chain LOGGUARDD (a port ban two: tcp and udp), and every packet is held against each of
them: good for a few hundred bans, slow for many thousands. The kernel expires no rules, so ``tick`` deletes them; a
rule whose time ends while the follower is not running stays until it runs again.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from logguardd.firewall import chains
from logguardd.networks import network_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from logguardd.firewall.commands import Runner
    from logguardd.records import Ban, Network

    _Key = tuple[Network, int]

# Deleting searches the chain for each rule; from here on filling it anew is faster.
_MANY = 50


class Iptables:
    """The backend of plain iptables rules, for the IP versions given; see firewall.Firewall."""

    def __init__(self, runner: Runner, versions: Sequence[int] = (4, 6)) -> None:
        self._runner = runner
        self._versions = tuple(versions)
        self._held: dict[_Key, int | None] = {}
        # (until, tie breaker, key); an entry is stale when the ban's end has changed since.
        self._ends: list[tuple[int, int, _Key]] = []
        self._ties = count()

    async def sync(self, bans: Sequence[Ban], now: int) -> None:
        """Make the chains hold exactly the active ``bans``, in one transaction for each IP version."""
        held = {ban.key: ban.until for ban in bans if ban.active(now)}
        for version in self._versions:
            await self._fill(version, held)
        self._held, self._ends = held, []
        self._note(held)

    async def apply(self, add: Sequence[Ban], remove: Sequence[Ban], now: int) -> None:
        """Append and delete rules, one transaction for each IP version; an extended ban's rule stays as it is."""
        put = {ban.key: ban.until for ban in add if ban.active(now)}
        gone = {ban.key for ban in (*remove, *add) if ban.key in self._held and ban.key not in put}
        await self._change(gone, put)

    async def tick(self, now: int) -> None:
        """Delete the rules of bans that have ended."""
        gone = set()
        while self._ends and self._ends[0][0] <= now:
            until, _, key = heapq.heappop(self._ends)
            if self._held.get(key, 0) == until:
                gone.add(key)
        if gone:
            await self._change(gone, {})

    async def intact(self, now: int) -> bool:  # noqa: ARG002 - the other backends'
        """Whether the chains are still jumped to first and hold as many rules as we made."""
        for version in self._versions:
            rules = sum(2 if port else 1 for network, port in self._held if network.version == version)
            if not await chains.intact(self._runner, version, rules):
                return False
        return True

    async def flush(self) -> None:
        """Remove the chains and with them every ban."""
        for version in self._versions:
            await chains.remove(self._runner, version)
        self._held, self._ends = {}, []

    async def show(self) -> str:
        """Return the chains' rules as iptables prints them."""
        texts = [await self._runner.ask(chains.ask(version, "-S", chains.CHAIN)) for version in self._versions]
        return "".join(text or "" for text in texts)

    async def close(self) -> None:
        """Release nothing: the rules stay."""

    async def _change(self, gone: Collection[_Key], put: Mapping[_Key, int | None]) -> None:
        for version in self._versions:
            ended = [key for key in gone if key[0].version == version]
            new = [key for key in put if key[0].version == version and key not in self._held]
            if len(ended) > _MANY:
                await self._fill(version, [key for key in (*self._held, *new) if key not in gone])
            elif ended or new:
                lines = [*_rules("-D", ended), *_rules("-A", new)]
                await self._runner.run(chains.restore(version, lines))
        for key in gone:
            del self._held[key]
        self._held.update(put)
        self._note(put)

    async def _fill(self, version: int, keys: Iterable[_Key]) -> None:
        await chains.fill(self._runner, version, _rules("-A", (key for key in keys if key[0].version == version)))

    def _note(self, put: Mapping[_Key, int | None]) -> None:
        for key, until in put.items():
            if until is not None:
                heapq.heappush(self._ends, (until, next(self._ties), key))


def _rules(verb: str, keys: Iterable[_Key]) -> Iterator[str]:
    for network, port in keys:
        source = f"{verb} {chains.CHAIN} -s {network_text(network)}"
        if not port:
            yield f"{source} -j DROP"
            continue
        for protocol in ("tcp", "udp"):
            yield f"{source} -p {protocol} -m {protocol} --dport {port} -j DROP"
