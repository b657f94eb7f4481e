"""What a follower never bans, whatever its source says: a safety net of the host's own; pure."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from logguardd.networks import WIDEST

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv6Address

    from logguardd.records import Network

    _Span = tuple[int, int, str]

_NEVER = (
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("0.0.0.0/8", "no peer's address"),
    ("224.0.0.0/4", "no peer's address"),
    ("255.255.255.255/32", "no peer's address"),
    ("::/128", "no peer's address"),
    ("ff00::/8", "no peer's address"),
)


class Guard:
    """Says why a network must not be banned on this host; ``never`` are networks that its operator named."""

    def __init__(self, never: Iterable[Network] = ()) -> None:
        self._fixed = [_span(network, "named by --never") for network in never]
        self._fixed += [_span(ip_network(text), why) for text, why in _NEVER]
        self._host: list[tuple[int, _Span]] = []
        self._spans = self._by_version()

    def protect(
        self,
        own: Iterable[IPv4Address | IPv6Address],
        gateways: Iterable[IPv4Address | IPv6Address],
        servers: Iterable[IPv4Address | IPv6Address] = (),
    ) -> bool:
        """Protect the host's own addresses, its default gateways and where its feed comes from (all that there are now).

        Return whether that is new.
        """
        host = [_span(ip_network(address), "own address") for address in own]
        host += [_span(ip_network(address), "default gateway") for address in gateways]
        host += [_span(ip_network(address), "logguardd's server") for address in servers]
        changed = set(host) != set(self._host)
        self._host = host
        self._spans = self._by_version()
        return changed

    def reason(self, network: Network) -> str | None:
        """Return why a network that holds, or lies in, a protected one is not banned; None if it may be."""
        if network.prefixlen < WIDEST[network.version]:
            return f"wider than /{WIDEST[network.version]}"
        first = int(network.network_address)
        last = first | int(network.hostmask)
        for low, high, why in self._spans[network.version]:
            if first <= high and low <= last:
                return why
        return None

    def _by_version(self) -> dict[int, list[_Span]]:
        spans: dict[int, list[_Span]] = {4: [], 6: []}
        for version, span in (*self._fixed, *self._host):
            spans[version].append(span)
        return spans


def _span(network: Network, why: str) -> tuple[int, _Span]:
    return network.version, (int(network.network_address), int(network.broadcast_address), why)
