"""Syslog over UDP (RFC 5426): one datagram is one message."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from typing import TYPE_CHECKING

from logguardd.framing import datagrams
from logguardd.listeners.activation import Inherited
from logguardd.listeners.limits import Limits
from logguardd.listeners.refusals import Refusals
from logguardd.listeners.senders import Senders, plain_address
from logguardd.listeners.sockets import bind, receive_buffer, shown_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.listeners import Sink
    from logguardd.metrics import Metrics

_log = logging.getLogger(__name__)

#: Bytes of receive buffer asked of the kernel for each socket.
RECEIVE_BUFFER = 16 * 1024 * 1024
#: No UDP payload is longer, over IPv4 or IPv6 (RFC 768: 16 bits of length).
_LONGEST = 65535
# One turn of the event loop takes at most this many datagrams or (looked at after each part) seconds.
_PART = 64
_PARTS = 8
_TURN = 0.002
# At the end, what the kernel still holds of a socket of our own, up to this many.
_LEFTOVER = 65536
_SAMPLE = 1.0
# socket(7) SO_MEMINFO, linux/sock_diag.h: nine counters, the last one SK_MEMINFO_DROPS.
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")


class UdpListener:
    """Receives datagrams on every specified socket and puts them into the sink, grouped by sender.

    ``specs`` are listen specifications (sockets.parse). While the sink is full, datagrams are read, dropped and counted
    ("queue-full"), and shown to it if it wants to see them; what the kernel drops since its buffer is full is counted
    once a second ("socket-buffer"). These, and who is not allowed to send, are told in the log at a bounded rate.
    """

    key = "listen.udp"
    transport = "udp"

    def __init__(
        self,
        specs: Sequence[str],
        sink: Sink,
        metrics: Metrics,
        limits: Limits | None = None,
        *,
        inherited: Inherited | None = None,
        buffer_size: int = RECEIVE_BUFFER,
    ) -> None:
        self._specs = tuple(specs)
        self._sink = sink
        self._limits = limits or Limits()
        self._inherited = inherited or Inherited()
        self._buffer_size = buffer_size
        self._senders = Senders(self.transport, self._limits.allowed_senders)
        self._refusals = Refusals(self.transport, metrics)
        self._sockets: list[_Socket] = []
        self._error = ""
        self._sampling: asyncio.TimerHandle | None = None
        self._messages = metrics.messages.labels(self.transport)
        self._bytes = metrics.bytes.labels(self.transport)
        self._truncated = metrics.truncated
        self._dropped = metrics.dropped
        self._queue_full = metrics.dropped.labels("queue-full")
        self._not_allowed = metrics.dropped.labels("sender-not-allowed")
        self._socket_buffer = metrics.dropped.labels("socket-buffer")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of every bound socket."""
        return [(host, port) for host, port, *_ in (each.socket.getsockname() for each in self._sockets)]

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port of the first bound socket."""
        return self.addresses[0]

    @property
    def receive_buffers(self) -> list[int]:
        """Return the bytes of receive buffer that the kernel granted each socket."""
        return [each.granted for each in self._sockets]

    async def start(self) -> None:
        """Bind and begin to receive; raise ConfigError naming key, address and cause."""
        opened = bind(self.key, self._specs, socket.SOCK_DGRAM, self._inherited)
        loop = asyncio.get_running_loop()
        for each in opened:
            granted = receive_buffer(each, self._buffer_size)
            if granted < self._buffer_size:
                _log.warning(
                    "%s: %s: receive buffer of %d KiB, not %d KiB; raise net.core.rmem_max or grant CAP_NET_ADMIN",
                    self.key, shown_address(each), granted // 1024, self._buffer_size // 1024,
                )  # fmt: skip
            entry = _Socket(each, granted, inherited=self._inherited.gave(each))
            self._sockets.append(entry)
            loop.add_reader(each.fileno(), self._drain, each)
        if self._sockets:
            self._sampling = loop.call_later(_SAMPLE, self._sample)

    def pause(self) -> None:
        """Stop receiving; datagrams wait in the kernel's buffer."""
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each.socket.fileno())

    async def stop(self) -> None:
        """Stop receiving and close.

        A socket of our own is first emptied into the sink; one of systemd's keeps its datagrams for the next process.
        """
        self.pause()
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
        for each in self._sockets:
            if not each.inherited:
                left = _LEFTOVER
                while left > 0 and (received := self._drain(each.socket)):
                    left -= received
                    await asyncio.sleep(0)
            self._count_kernel_drops(each)
            each.socket.close()
        self._sockets = []

    def _drain(self, bound: socket.socket) -> int:
        """Read what has arrived, within one turn's bound; return the number of datagrams read."""
        full = self._sink.full_of_datagrams
        if full and not self._sink.watching:
            return self._discard(bound)
        received = 0
        for host, payloads in self._receive(bound).items():
            received += len(payloads)
            self._put(host, payloads, drop=full)
        return received

    def _receive(self, bound: socket.socket) -> dict[str, list[bytes]]:
        """Return the datagrams of one turn by host."""
        receive = bound.recvfrom
        by_host: dict[str, list[bytes]] = {}
        end = time.monotonic() + _TURN
        try:
            for _ in range(_PARTS):
                for _ in range(_PART):
                    payload, address = receive(_LONGEST)
                    try:
                        by_host[address[0]].append(payload)
                    except KeyError:
                        by_host[address[0]] = [payload]
                if time.monotonic() > end:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if str(error) != self._error:  # the same one may come with every turn
                self._error = str(error)
                _log.warning("%s: %s", self.key, error)
        return by_host

    def _put(self, host: str, payloads: list[bytes], *, drop: bool) -> None:
        origin = self._senders.origin(host)
        if origin is None:
            self._not_allowed.inc(len(payloads))
            self._refusals.tell(
                "sender-not-allowed", plain_address(host), "not in listen.allowed_senders", len(payloads)
            )
            return
        framed = datagrams(payloads, self._limits.max_message)
        if drop:
            self._queue_full.inc(len(payloads))
            if self._sink.watching:
                self._sink.see(origin, framed)
            return
        self._messages.inc(framed.number)
        self._bytes.inc(sum(map(len, payloads)))
        if framed.truncated:
            self._truncated.inc(framed.truncated)
        for reason, number in framed.dropped.items():
            self._dropped.labels(reason).inc(number)
        if framed.number:
            self._sink.put(origin, framed)

    def _discard(self, bound: socket.socket) -> int:
        received = 0
        nothing = bytearray(1)
        try:
            while received < _PART * _PARTS:
                bound.recv_into(nothing)
                received += 1
        except OSError:  # BlockingIOError at the end; anything else shows at the next drain
            pass
        if received:
            self._queue_full.inc(received)
            self._refusals.tell("queue-full", "everybody", "datagrams dropped, the journal does not keep up", received)
        return received

    def _sample(self) -> None:
        for each in self._sockets:
            self._count_kernel_drops(each)
        self._sampling = asyncio.get_running_loop().call_later(_SAMPLE, self._sample)

    def _count_kernel_drops(self, each: _Socket) -> None:
        dropped = each.new_drops()
        if dropped:
            self._socket_buffer.inc(dropped)
            self._refusals.tell(
                "socket-buffer", "everybody", "datagrams dropped by the kernel, we do not keep up", dropped
            )


class _Socket:
    """A bound socket and how many datagrams the kernel has dropped on it."""

    def __init__(self, bound: socket.socket, granted: int, *, inherited: bool) -> None:
        self.socket = bound
        self.granted = granted
        self.inherited = inherited
        self._drops = 0
        self._drops = self._read_drops()  # a socket that systemd kept for us has a history already

    def new_drops(self) -> int:
        """Return the drops since the last call; the kernel's counter wraps at 32 bits."""
        before, self._drops = self._drops, self._read_drops()
        return (self._drops - before) & 0xFFFFFFFF

    def _read_drops(self) -> int:
        try:
            counters = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return self._drops  # a kernel before 4.12
        return int(_MEMINFO.unpack(counters)[-1])
