"""Who is never banned: allowlisted networks, own addresses, gateways, servers we need, senders of logs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

from logguardd.records import SECOND, Network

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What may be given as something to protect: text is an address or a network.
Protected = Network | IPv4Address | IPv6Address | str

#: How long a sender is protected after its last message.
SENDER_TIME = 24 * 3600 * SECOND

# Addresses that are nobody's on the Internet, or many's; banning them could only hurt ourselves (RFC 6890).
_SPECIAL = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "broadcast": ("255.255.255.255/32",),
}
_MAPPED = IPv6Network("::ffff:0:0/96")


class Allowlist:
    """Says why a network must not be banned. Times are arguments, in microseconds.

    Senders of logs protect themselves by sending: at most ``max_senders`` at a time, the first to come stay as long as
    they go on; where strangers can reach the listeners, allowed_senders keeps them out of this too.
    """

    def __init__(
        self,
        networks: Iterable[Protected],
        *,
        own: Iterable[Protected] = (),
        gateways: Iterable[Protected] = (),
        infrastructure: Iterable[Protected] = (),
        max_senders: int = 65_536,
    ) -> None:
        """Take what ``protect`` takes."""
        self._max_senders = max_senders
        self._senders: dict[str, int] = {}
        # The senders' addresses as numbers, sorted, by IP version: to find one within a network.
        self._numbers: dict[int, list[int]] = {4: [], 6: []}
        self._texts: dict[tuple[int, int], str] = {}
        self._sweep_at = 0
        self.protect(networks, own=own, gateways=gateways, infrastructure=infrastructure)

    def protect(
        self,
        networks: Iterable[Protected],
        *,
        own: Iterable[Protected] = (),
        gateways: Iterable[Protected] = (),
        infrastructure: Iterable[Protected] = (),
    ) -> None:
        """Replace what is protected besides senders, all of it or nothing; raise ValueError for text that is no network.

        ``networks`` is the allowlist, ``own`` this machine's addresses, ``gateways`` its default gateways,
        ``infrastructure`` the addresses of the PostgreSQL and Redis hosts.
        """
        self._static = [
            (reason, _Ranges(given))
            for reason, given in (
                ("allowlist", networks),
                ("own address", own),
                ("gateway", gateways),
                ("infrastructure", infrastructure),
                *_SPECIAL.items(),
            )
        ]

    def reason(self, network: Network, now: int) -> str | None:
        """Return why the network must not be banned, None if it may be.

        Not only what lies within something protected, but also what contains something: an IPv6 /64 with one
        allowlisted address in it. Reasons: "allowlist", "own address", "gateway", "infrastructure", "sender", and
        "unspecified", "loopback", "link-local", "multicast", "broadcast".
        """
        version, first, last = _bounds(_network(network))
        for reason, ranges in self._static:
            if ranges.overlap(version, first, last):
                return reason
        return "sender" if self._sends(version, first, last, now) else None

    def saw_sender(self, peer: str, now: int) -> None:
        """Note that this address (as in Origin.peer) sent messages; text that is no address is left alone."""
        if peer in self._senders:
            self._senders[peer] = now
            return
        if len(self._senders) >= self._max_senders:
            if now < self._sweep_at:
                return
            self._sweep(now)
            if len(self._senders) >= self._max_senders:
                return
        try:
            version, number, _ = _bounds(_network(peer))
        except ValueError:
            return
        known = self._texts.setdefault((version, number), peer)
        if known not in self._senders:
            insort(self._numbers[version], number)
        self._senders[known] = now

    def _sends(self, version: int, first: int, last: int, now: int) -> bool:
        numbers = self._numbers[version]
        return any(
            self._senders[self._texts[version, number]] + SENDER_TIME > now
            for number in numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]
        )

    def _sweep(self, now: int) -> None:
        """Forget idle senders; until the next one can have become idle there is no need to look again."""
        idle = {peer for peer, seen in self._senders.items() if seen + SENDER_TIME <= now}
        self._texts = {key: peer for key, peer in self._texts.items() if peer not in idle}
        for version in self._numbers:
            self._numbers[version] = sorted(number for v, number in self._texts if v == version)
        for peer in idle:
            del self._senders[peer]
        self._sweep_at = max(min(self._senders.values(), default=0) + SENDER_TIME, now + SECOND)


class _Ranges:
    """Networks as sorted ranges of numbers that do not overlap, by IP version."""

    def __init__(self, given: Iterable[Protected]) -> None:
        bounds = sorted({_bounds(_network(item)) for item in given})
        self._first: dict[int, list[int]] = {4: [], 6: []}
        self._last: dict[int, list[int]] = {4: [], 6: []}
        for version, first, last in bounds:
            lasts = self._last[version]
            # Networks are nested or apart: what does not reach beyond the last one lies within it.
            if not lasts or last > lasts[-1]:
                self._first[version].append(first)
                lasts.append(last)

    def overlap(self, version: int, first: int, last: int) -> bool:
        at = bisect_right(self._first[version], last) - 1
        return at >= 0 and self._last[version][at] >= first


def _network(given: Protected) -> Network:
    if isinstance(given, str):
        # Link-local addresses come with their zone.
        given = given.partition("%")[0]
    network: Network = given if isinstance(given, (IPv4Network, IPv6Network)) else ip_network(given, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED.prefixlen and network.subnet_of(_MAPPED):
        network = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def _bounds(network: Network) -> tuple[int, int, int]:
    first = int(network.network_address)
    return network.version, first, first | int(network.hostmask)
