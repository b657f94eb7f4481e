"""The bounds that every listener keeps, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from logguardd.records import SECOND

if TYPE_CHECKING:
    from logguardd.records import Network


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener; sizes in bytes, times in microseconds.

    ``max_connections`` counts per listener, so that a flood of plain TCP connections leaves the TLS listener's alone.
    ``allowed_senders`` empty means everyone; ``idle_timeout`` 0 means never.
    """

    max_message: int = 64 * 1024
    max_connections: int = 1000
    idle_timeout: int = 600 * SECOND
    handshake_timeout: int = 10 * SECOND
    allowed_senders: tuple[Network, ...] = ()
