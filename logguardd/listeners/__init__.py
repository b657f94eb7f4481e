"""Sockets to frames: UDP, TCP, TLS, RELP. A listener frames what it reads and gives it to a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from logguardd.records import Framed, Origin


class Sink(Protocol):
    """Where listeners put frames: the journal's intake. Not thread-safe; called from the event loop."""

    @property
    def full(self) -> bool:
        """Whether the bound for streams is reached: their listeners stop reading."""

    @property
    def full_of_datagrams(self) -> bool:
        """Whether the bound for datagrams is reached: the UDP listener drops and counts.

        It has a bound of its own, since streams that send as fast as they are read keep theirs full all the time.
        """

    @property
    def watching(self) -> bool:
        """Whether the frames that are dropped should be shown to ``see``."""

    def see(self, origin: Origin, framed: Framed) -> None:
        """Take a look at frames that are dropped: who attacks is banned all the same."""

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, soon after ``full`` became False again."""

    def put(self, origin: Origin, framed: Framed) -> asyncio.Future[None] | None:
        """Take frames (also while full: the bound is soft by one read). Stamps the receive time.

        Returns a future that is done when the frames are durable, or None if ``framed`` holds no frame. The future is
        shared by everything in the same group commit.
        """
