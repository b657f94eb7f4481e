"""One stream connection: bytes to frames to the sink, read only while there is room."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from logguardd.framing import Framer

if TYPE_CHECKING:
    from logguardd.listeners.stream import StreamListener
    from logguardd.records import Origin

# Reasons for which a connection is not read.
SINK_FULL = 1
WINDOW_FULL = 2
UNREAD_ANSWERS = 4


class Connection(asyncio.Protocol, ABC):
    """One connection: admitted or refused, read while there is room; what the bytes mean is a subclass's matter."""

    def __init__(self, listener: StreamListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._origin: Origin | None = None
        self._last = 0.0
        self._holds = 0
        self._finished = False

    @property
    def peer(self) -> str:
        """Return the peer's address."""
        return self._origin.peer if self._origin else "?"

    @property
    def ending(self) -> bool:
        """Return whether nothing more is taken from it."""
        return self._finished

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit or refuse the connection."""
        origin = self._listener.admit(transport)
        if origin is not None:
            self.begin(transport, origin)

    def begin(self, transport: asyncio.BaseTransport, origin: Origin) -> None:
        """Enter an admitted connection: from now on its bytes are taken."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._origin = origin
        self._last = self._loop.time()
        self._listener.opened(self)
        if self._listener.sink.full:
            self.hold(SINK_FULL)
            self._listener.wait_for_room(self)

    def data_received(self, data: bytes) -> None:
        """Frame the bytes and put them; stop reading while the sink is full."""
        if self._origin is None or self._finished:
            return  # refused, or closed by us: the transport may still hand over one read
        self._last = self._loop.time()
        self._take(self._origin, data)
        if self._listener.sink.full and not self._holds & SINK_FULL:
            self.hold(SINK_FULL)
            self._listener.wait_for_room(self)
        elif self._holds:
            self._pause()

    def eof_received(self) -> bool | None:
        """End the frame that stands open; the transport closes itself."""
        self._finish()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset is an end like any other
        """End the frame that stands open and leave the listener."""
        self._finish()
        self._listener.closed(self)

    def pause_writing(self) -> None:
        """Do not read from a peer that does not read what it makes us write."""
        self.hold(UNREAD_ANSWERS)

    def resume_writing(self) -> None:
        """Read again."""
        self.release(UNREAD_ANSWERS)

    def hold(self, reason: int) -> None:
        """Stop reading for this reason (too)."""
        if not self._holds:
            self._pause()
        self._holds |= reason

    def release(self, reason: int) -> None:
        """Read again, unless there is another reason not to."""
        if self._holds & reason:
            self._holds &= ~reason
            self._last = self._loop.time()  # it was us who did not listen
            if not self._holds and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def quiet(self, since: float) -> bool:
        """Return whether nothing has come since then (event loop's time) although it is not us who do not read."""
        return self._last < since and (self._finished or not self._holds & ~UNREAD_ANSWERS)

    def end(self) -> None:
        """Say that we want no more, so that the peer connects elsewhere or waits; go on taking what is under way."""
        if self._transport is not None and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Put what is framed and close."""
        self._last = self._loop.time()
        self._finish()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # A pause in connection_made does not last: uvloop, and asyncio of early 3.11, then start to read all the
            # same, and asyncio takes no second pause without a resume.
            self._transport.resume_reading()
            self._transport.pause_reading()

    def _finish(self) -> None:
        if self._origin is not None and not self._finished:
            self._finished = True
            self._ended(self._origin)

    @abstractmethod
    def _take(self, origin: Origin, data: bytes) -> None:
        """Make frames of the bytes and put them."""

    @abstractmethod
    def _ended(self, origin: Origin) -> None:
        """Deal with what the end of the stream, or our closing it, leaves unfinished."""


class SyslogConnection(Connection):
    """A stream of syslog frames (RFC 6587, RFC 5425)."""

    def __init__(self, listener: StreamListener) -> None:
        super().__init__(listener)
        self._framer = Framer(listener.limits.max_message)

    def _take(self, origin: Origin, data: bytes) -> None:
        self._listener.received(len(data))
        self._listener.put(origin, self._framer.feed(data))

    def _ended(self, origin: Origin) -> None:
        self._listener.put(origin, self._framer.eof())
