"""The journal: an append-only, offset-numbered log of what was received, and the intake that feeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.records import Batch


class Journal(Protocol):
    """Append, read from an offset, commit an offset. Positions count messages; a batch spans ``count`` of them.

    Methods raise errors.UnavailableError when the disk is full or fails; the caller keeps its work and tries again.
    """

    @property
    def id(self) -> str:
        """The journal's identity (made once, kept with it): offsets mean something only together with it."""

    @property
    def head(self) -> int:
        """The position that the next message will get; positions start at 1."""

    @property
    def oldest(self) -> int:
        """The position of the oldest message still kept (equal to ``head`` when there is none)."""

    @property
    def size(self) -> int:
        """The bytes in use on the disk."""

    async def open(self) -> None:
        """Create or open the journal; raise errors.ConfigError when its place cannot be used."""

    async def append(self, batches: Sequence[Batch]) -> int:
        """Write the batches in order, all or none, numbering them; they are durable on return. Return the new head."""

    async def read(self, offset: int, max_bytes: int) -> list[Batch]:
        """Return batches in order from the one that holds ``offset``, at least one if there is any, about max_bytes.

        The first batch may begin before ``offset``, when a consumer committed inside it.
        """

    async def wait(self, offset: int) -> None:
        """Return once ``head`` is greater than ``offset``."""

    async def commit(self, consumer: str, offset: int) -> None:
        """Store that ``consumer`` needs nothing before ``offset`` any more."""

    async def committed(self, consumer: str) -> int:
        """Return the stored offset of ``consumer``, or ``oldest`` when it has none."""

    async def advance(self, position: int) -> None:
        """Give no position below ``position`` to a message any more (it fell back behind what a consumer stored)."""

    async def prune(self, now: int) -> int:
        """Drop what retention and size limits allow (never what a consumer still needs).

        Return the messages dropped since the last call, whoever dropped them.
        """

    async def close(self) -> None:
        """Flush and close."""
