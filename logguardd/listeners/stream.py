"""Syslog over TCP (RFC 6587): what accepts connections, bounds them and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, cast

from logguardd.listeners.activation import Inherited
from logguardd.listeners.connection import SINK_FULL, Connection, SyslogConnection
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
_CLOSING = 0.5
# Turns of the event loop in which a connection that it has accepted gets to its protocol (uvloop takes two).
_HANDING_OVER = 10


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
        self._waiting: dict[Connection, None] = {}  # for room in the sink, the first one first
        self._asked = 0  # calls that the sink owes us
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
        for _ in range(_HANDING_OVER):  # systemd gives to nobody else what has been accepted
            await asyncio.sleep(0)
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
        if self.occupied >= most and not self.make_room():
            self.refuse(transport, "max-connections", origin.peer, f"listen.max_connections is {most}")
            return None
        return origin

    def make_room(self) -> bool:
        """End a connection for the sake of a new one, if there is one that is not worth keeping; return whether."""
        return False

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
            self._waiting.pop(connection, None)
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
        self._waiting[connection] = None
        if self._asked < len(self._waiting):
            self._asked += 1
            self.sink.when_room(self._room)

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
        """Let one connection go on: the sink calls as often as it has room for a read."""
        self._asked -= 1
        connection = next(iter(self._waiting), None)
        if connection is not None:
            del self._waiting[connection]
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
