"""Syslog over RELP: a message is acknowledged once it is durable."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from logguardd.framing import messages
from logguardd.listeners.connection import WINDOW_FULL, Connection
from logguardd.listeners.relp_protocol import SERVER_CLOSE, Messages, RelpProtocol
from logguardd.listeners.stream import StreamListener
from logguardd.records import Framed

if TYPE_CHECKING:
    import asyncio

    from logguardd.records import Origin

# Unacknowledged messages of one connection after which it is not read (librelp's clients stop by themselves at 128).
_WINDOW = 4096


class RelpListener(StreamListener):
    """As StreamListener, for RELP sessions: senders keep messages until they are in the journal."""

    key = "listen.relp"
    transport = "relp"

    def connection(self) -> Connection:
        """Return the protocol object for a new connection."""
        return _RelpConnection(self)


class _Pending:
    """Answers that wait for their turn, and messages for being durable."""

    __slots__ = ("answer", "durable", "number")

    def __init__(self, answer: bytes, durable: asyncio.Future[None] | None = None, number: int = 0) -> None:
        self.answer = answer
        self.durable = durable
        self.number = number


class _RelpConnection(Connection):
    def __init__(self, listener: StreamListener) -> None:
        super().__init__(listener)
        self._protocol = RelpProtocol(listener.limits.max_message)
        self._max_message = listener.limits.max_message
        self._pending: deque[_Pending] = deque()
        self._unacknowledged = 0
        self._awaited: asyncio.Future[None] | None = None
        self._last_words: bytes | None = None  # set once the connection ends when all answers are sent

    def eof_received(self) -> bool:
        """Answer what is pending, then close."""
        self._close_after(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what is pending: the client sends it again."""
        self._pending.clear()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close at once: what is not acknowledged the client sends again."""
        self.close()

    def close(self) -> None:
        """Answer what is pending, hint at the end, then close."""
        self._close_after(SERVER_CLOSE)

    def _take(self, origin: Origin, data: bytes) -> None:
        self._listener.received(len(data))
        for step in self._protocol.feed(data):
            if isinstance(step, Messages):
                durable = self._listener.put(origin, messages(step.payloads, self._max_message))
                self._unacknowledged += len(step.numbers)
                self._pending.append(_Pending(step.answer, durable, len(step.numbers)))
            else:
                self._pending.append(_Pending(step.data))
        if self._protocol.closed:
            if self._protocol.error:
                self._listener.refusals.refuse("relp-protocol", origin.peer, self._protocol.error)
            self._close_after(b"")
        else:
            self._flush()

    def _ended(self, origin: Origin) -> None:
        if self._protocol.partial:
            self._listener.put(origin, Framed(b"", 0, 0, {"partial": 1}))

    def _close_after(self, last_words: bytes) -> None:
        if self._last_words is None:
            self._last_words = last_words
            self._last = self._loop.time()
            self._finish()
            self._flush()

    def _durable(self, _: asyncio.Future[None]) -> None:
        self._awaited = None
        self._flush()

    def _flush(self) -> None:
        """Send the answers that are due, in order, and wait for the first that is not."""
        transport, pending = self._transport, self._pending
        if transport is None or transport.is_closing():
            return
        due = []
        while pending:
            first = pending[0]
            if first.durable is not None:
                if not first.durable.done():
                    self._await(first.durable)
                    break
                if first.durable.cancelled() or first.durable.exception() is not None:
                    self._listener.refuse(
                        transport, "not-durable", self.peer, "the journal failed; the sender keeps its messages"
                    )
                    return
            pending.popleft()
            self._unacknowledged -= first.number
            due.append(first.answer)
        if self._last_words is not None and not pending:
            due.append(self._last_words)
        if due:
            transport.write(b"".join(due))
        if self._last_words is not None and not pending:
            transport.close()
        elif self._unacknowledged >= _WINDOW:
            self.hold(WINDOW_FULL)
        else:
            self.release(WINDOW_FULL)

    def _await(self, durable: asyncio.Future[None]) -> None:
        if self._awaited is not durable:
            self._awaited = durable
            durable.add_done_callback(self._durable)
