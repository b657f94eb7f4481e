"""The archive: every message and the blacklist, in PostgreSQL or SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.archive.rows import About, Received, Row
    from logguardd.records import Ban


class Archive(Protocol):
    """Rows and their journal offset in one transaction; the blacklist beside them.

    Methods raise errors.UnavailableError while the server is away or the disk is full.
    """

    async def open(self) -> None:
        """Connect, migrate the schema (under an advisory lock), make partitions; raise errors.ConfigError or UnavailableError."""

    async def offset(self, journal_id: str) -> int:
        """Return the first journal position not yet stored from that journal, 0 for a journal never seen.

        To be called before the first ``write`` and again after any that raised: writes go on from what it returned.
        """

    async def write(self, rows: Sequence[Row], journal_id: str, offset: int) -> None:
        """Store the rows and, in the same transaction, ``offset`` as the first position not yet stored."""

    async def load_bans(self, limit: int) -> list[Ban]:
        """Return the newest ``limit`` bans, active and past (past ones carry the count for escalation), newest last.

        A ban that was ended before its time is returned with ``until`` = ``since``: in force at no time.
        """

    async def save_bans(self, bans: Sequence[Ban]) -> None:
        """Insert or update bans by (network, port)."""

    async def end_bans(self, bans: Sequence[Ban]) -> None:
        """Mark bans as no longer active (expired or unbanned)."""

    async def about(self, address: str, limit: int) -> list[About]:
        """Return the ``limit`` newest messages with this remote address, newest first."""

    async def look(self) -> None:
        """Check that the archive is there, changing nothing: what a program beside the daemon does instead of ``open``.

        Raises errors.ConfigError or UnavailableError.
        """

    async def received(self, first: int, last: int, limit: int) -> list[Received]:
        """Return what was received from ``first`` on and before ``last``, in order, at most ``limit`` messages of it."""

    async def maintain(self, now: int) -> int:
        """Make partitions ahead and drop what is older than retention; return how many days were dropped."""

    async def close(self) -> None:
        """Close connections."""
