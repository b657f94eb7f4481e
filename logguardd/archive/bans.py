"""Bans to rows of the table ``blacklist`` and back, the same for both databases."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, NamedTuple

from logguardd.records import Ban

if TYPE_CHECKING:
    from logguardd.records import Network


class BanRow(NamedTuple):
    """What is stored of a ban. Times are microseconds since the epoch, ``metadata`` is JSON as text."""

    ip_address: str
    port: int
    reason: str
    blacklist_count: int
    last_blacklisted_at: int
    expires_at: int | None
    metadata: str


def to_row(ban: Ban) -> BanRow:
    """Return the row of a ban."""
    metadata = json.dumps(_clean({"jail": ban.jail, "evidence": dict(ban.evidence)}), default=str)
    return BanRow(address(ban.network), ban.port, str(_clean(ban.reason)), ban.count, ban.since, ban.until, metadata)


def _clean(value: object) -> object:
    """Return a JSON value without what PostgreSQL's text and jsonb refuse: NUL and lone surrogates, here escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(value, dict):
        return {str(_clean(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item) for item in value]
    return value


def from_row(row: BanRow, *, active: bool, now: int) -> Ban:
    """Return the ban of a row.

    One that was lifted before its time is given back with ``until`` = ``since``: it must not come into force again.
    """
    metadata = json.loads(row.metadata)
    lifted = not active and (row.expires_at is None or row.expires_at > now)
    return Ban(
        network=ipaddress.ip_network(row.ip_address),
        port=row.port,
        jail=str(metadata.get("jail", "")),
        since=row.last_blacklisted_at,
        until=row.last_blacklisted_at if lifted else row.expires_at,
        reason=row.reason,
        count=row.blacklist_count,
        evidence=metadata.get("evidence") or {},
    )


def address(network: Network) -> str:
    """Return a network as it is stored: a single address without its prefix length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
