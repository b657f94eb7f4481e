"""Syslog over TCP (RFC 6587): one protocol object for each connection, one listener for all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, cast

from logguardd.framing import Framer
from logguardd.listeners.activation import Inherited
from logguardd.listeners.limits import Limits
from logguardd.listeners.refusals import Refusals
from logguardd.listeners.senders import Senders, plain_address
from logguardd.listeners.sockets import BACKLOG, bind
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.listeners import Sink
    from logguardd.metrics import Metrics
    from logguardd.records import Framed, Origin

# A peer that vanished without a FIN is found out after 60 + 6 * 10 seconds (tcp(7)); idle_timeout alone may be off.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
# Idle connections are found by one look at all of them, this many times in an idle_timeout.
_LOOKS = 8
# At the end: how long peers may go on sending, which they do until they see our FIN, and how long silence means done.
_GRACE = 1.0
_QUIET = 0.1
_CLOSING = 1.0

# Reasons for which a connection is not read.
SINK_FULL = 1
WINDOW_FULL = 2
UNREAD_ANSWERS = 4


class StreamListener:
    """Accepts connections on every specified socket and puts what they send into the sink.

    ``specs`` are listen specifications (sockets.parse). Nothing is read from any connection while the sink is full. A
    connection is refused (closed at once, counted with its reason) beyond ``max_connections`` and from a sender that is
    not allowed, and closed after ``idle_timeout`` without a byte.
    """

    key = "listen.tcp"
    transport = "tcp"

    def __init__(
        self,
        specs: Sequence[str],
        sink: Sink,
        metrics: Metrics,
        limits: Limits | None = None,
        *,
        inherited: Inherited | None = None,
    ) -> None:
        self.sink = sink
        self.limits = limits or Limits()
        self.refusals = Refusals(self.transport, metrics)
        self._specs = tuple(specs)
        self._inherited = inherited or Inherited()
        self._senders = Senders(self.transport, self.limits.allowed_senders)
        self._servers: list[asyncio.Server] = []
        self._addresses: list[tuple[str, int]] = []
        self._connections: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._waiting: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._stopping = False
        self._messages = metrics.messages.labels(self.transport)
        self._bytes = metrics.bytes.labels(self.transport)
        self._truncated = metrics.truncated
        self._dropped = metrics.dropped
        self._opened = metrics.connections_opened.labels(self.transport)
        self._gauge = metrics.connections.labels(self.transport)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of every bound socket."""
        return list(self._addresses)

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of the first bound socket."""
        return self._addresses[0]

    async def start(self) -> None:
        """Bind and begin to accept; raise ConfigError naming key, address and cause."""
        loop = asyncio.get_running_loop()
        for bound in bind(self.key, self._specs, socket.SOCK_STREAM, self._inherited):
            self._addresses.append(bound.getsockname()[:2])
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit these on Linux
            for option, value in _KEEPALIVE:
                bound.setsockopt(socket.IPPROTO_TCP, option, value)
            self._servers.append(await loop.create_server(self._accepting, sock=bound, backlog=BACKLOG))
        if self._servers and self.limits.idle_timeout:
            self._sweep()

    def pause(self) -> None:
        """Stop accepting; open connections go on."""
        for server in self._servers:
            server.close()
        self._servers = []

    async def stop(self) -> None:
        """Stop accepting, take what peers still have under way (a second at most), close every connection.

        Frames that were received are in the sink when this returns.
        """
        self.pause()
        self._stopping = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        loop = asyncio.get_running_loop()
        for connection in list(self._connections):
            connection.end()
        end = loop.time() + _GRACE
        while self._connections and loop.time() < end:
            for connection in list(self._connections):
                if connection.quiet(loop.time() - _QUIET):
                    connection.close()
            await asyncio.sleep(_QUIET / 10)
        for connection in list(self._connections):
            connection.close()
        await self._until_none_is_open(_CLOSING)
        for connection in list(self._connections):
            connection.abort()
        await self._until_none_is_open(_CLOSING)

    # What connections ask of their listener.

    @property
    def occupied(self) -> int:
        """Return how many connections count toward max_connections."""
        return len(self._connections)

    def admit(self, transport: asyncio.BaseTransport) -> Origin | None:
        """Return the origin of a new connection, or None after refusing it."""
        peername = transport.get_extra_info("peername")
        if not peername:  # reset before it was accepted
            self.refuse(transport, "disconnected", "?", "gone before it was accepted")
            return None
        host = peername[0]
        origin = self._senders.origin(host)
        if origin is None:
            self.refuse(transport, "sender-not-allowed", plain_address(host), "not in listen.allowed_senders")
            return None
        if self._stopping:
            self.refuse(transport, "stopping", origin.peer, "accepted too late")
            return None
        most = self.limits.max_connections
        if self.occupied >= most:
            self.refuse(transport, "max-connections", origin.peer, f"listen.max_connections is {most}")
            return None
        return origin

    def refuse(self, transport: asyncio.BaseTransport, reason: str, peer: str, detail: str) -> None:
        """Close a connection at once and count why."""
        self.refusals.refuse(reason, peer, detail)
        cast("asyncio.Transport", transport).abort()

    def opened(self, connection: Connection) -> None:
        """Enter a connection that was admitted."""
        self._connections.add(connection)
        self._none_open.clear()
        self._opened.inc()
        self._gauge.inc()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._waiting.discard(connection)
            self._gauge.dec()
            if not self._connections:
                self._none_open.set()

    def put(self, origin: Origin, framed: Framed) -> asyncio.Future[None] | None:
        """Give frames to the sink and count them."""
        if framed.truncated:
            self._truncated.inc(framed.truncated)
        for reason, number in framed.dropped.items():
            self._dropped.labels(reason).inc(number)
        if not framed.number:
            return None
        self._messages.inc(framed.number)
        return self.sink.put(origin, framed)

    def received(self, size: int) -> None:
        """Count bytes read from a connection."""
        self._bytes.inc(size)

    def wait_for_room(self, connection: Connection) -> None:
        """Let the connection read again once the sink has room."""
        if not self._waiting:
            self.sink.when_room(self._room)
        self._waiting.add(connection)

    def connection(self) -> Connection:
        """Return the protocol object for a new connection."""
        return SyslogConnection(self)

    def _accepting(self) -> asyncio.Protocol:
        return self.connection()

    async def _until_none_is_open(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none_open.wait()

    def _room(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for connection in waiting:
            connection.release(SINK_FULL)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        timeout = self.limits.idle_timeout / SECOND
        for connection in list(self._connections):
            if not connection.quiet(loop.time() - timeout):
                continue
            if connection.ending:  # it has not even read what we had to say
                connection.abort()
            else:
                self.refusals.refuse("idle", connection.peer, f"silent for {timeout:g} s")
                connection.close()
        self._sweeping = loop.call_later(timeout / _LOOKS, self._sweep)


class Connection(asyncio.Protocol):
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

    def _take(self, origin: Origin, data: bytes) -> None:
        """Make frames of the bytes and put them."""
        raise NotImplementedError

    def _ended(self, origin: Origin) -> None:
        """Deal with what the end of the stream, or our closing it, leaves unfinished."""
        raise NotImplementedError


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
