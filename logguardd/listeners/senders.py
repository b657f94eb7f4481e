"""Peers: who may send, and the origin that each gives its frames."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from logguardd.records import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.records import Network

_MAPPED = "::ffff:"
_REMEMBERED = 4096


def plain_address(host: str) -> str:
    """Return a socket address's host as an origin's peer: an IPv4-mapped address unmapped, no zone."""
    host = host.partition("%")[0]
    if host.startswith(_MAPPED) and "." in host:
        return host[len(_MAPPED) :]
    return host


class Senders:
    """Decides by ``allowed_senders`` (empty: everyone) and remembers the answers, a bounded number of them."""

    def __init__(self, transport: str, allowed: Sequence[Network]) -> None:
        self._transport = transport
        self._allowed = tuple(allowed)
        self._origins: dict[str, Origin | None] = {}

    def origin(self, host: str) -> Origin | None:
        """Return the origin for the host of a socket address, or None if it may not send."""
        try:
            return self._origins[host]
        except KeyError:
            pass
        if len(self._origins) >= _REMEMBERED:
            self._origins.clear()  # UDP addresses can be forged, so the number of senders has no bound of its own
        peer = plain_address(host)
        self._origins[host] = found = Origin(peer, self._transport) if self._allows(peer) else None
        return found

    def _allows(self, peer: str) -> bool:
        if not self._allowed:
            return True
        address = ip_address(peer)
        return any(address in network for network in self._allowed)
