"""The ban feed for other hosts: HTTPS with client certificates, ``GET /follow`` and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import socket
import ssl
from typing import TYPE_CHECKING

from logguardd.errors import ConfigError
from logguardd.listeners.activation import Inherited
from logguardd.listeners.refusals import Refusals
from logguardd.listeners.senders import plain_address
from logguardd.listeners.sockets import bind
from logguardd.listeners.tls_context import build_context, certificate_end, reason
from logguardd.listeners.tls_peers import certificate_names, permitted_peer
from logguardd.tls_stream import TlsStream
from logguardd.web import followers as feeds

if TYPE_CHECKING:
    from logguardd.listeners.tls_context import TlsSettings
    from logguardd.metrics import Metrics
    from logguardd.web.followers import Followers

_LOG = logging.getLogger(__name__)

#: Seconds for handshake and request, and connections that may be at it at a time.
PATIENCE = 10.0
MAX_WAITING = 64
#: The longest head of a request, in bytes.
MAX_HEAD = 8192
_KEY = "http.follow"
# What is sent is acknowledged by the peer's kernel within so many milliseconds, or the peer has gone (tcp(7)).
_USER_TIMEOUT = 30_000
# accept(2): what will not be better at once.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE = 1.0
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_OK = 200


class FollowServer:
    """Serves the feed at one place. ``start`` and ``stop`` may be called once each, stop after Followers.close()."""

    def __init__(self, listen: str, settings: TlsSettings, followers: Followers, metrics: Metrics) -> None:
        """``listen`` is http.follow; raise ConfigError for certificates that are no good."""
        self._listen = listen
        self._followers = followers
        self._certificate_end = metrics.certificate_end.labels("follow")
        self._refusals = Refusals("follow", metrics)
        self._opened = metrics.connections_opened.labels("follow")
        self._gauge = metrics.connections.labels("follow")
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._addresses: list[tuple[str, int]] = []
        self.reload(settings)

    def reload(self, settings: TlsSettings) -> None:
        """Use these settings for connections from now on; whoever follows already goes on.

        Raise ConfigError when the files are bad; then the settings before stay in force.
        """
        if not settings.client_ca:
            raise ConfigError(f"tls.client_ca: not set; {_KEY} needs it, since it says who may follow")
        context, warnings = build_context(settings)
        self._permitted = [permitted_peer(peer) for peer in settings.permitted_peers]
        self._context = context
        self._certificate_end.set(certificate_end(context, settings.certificate))
        for warning in warnings:
            _LOG.warning("%s", warning)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of every bound socket."""
        return list(self._addresses)

    async def start(self) -> None:
        """Bind and begin to accept; raise ConfigError naming key, address and cause."""
        for bound in bind(_KEY, [self._listen], socket.SOCK_STREAM, Inherited()):
            self._addresses.append(bound.getsockname()[:2])
            self._accepting.append(asyncio.create_task(self._accept(bound)))

    async def stop(self) -> None:
        """Stop accepting and close every connection. Followers whose feed has ended are told goodbye."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=feeds.LOOK)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with bound:
            while True:
                try:
                    connection, address = await loop.sock_accept(bound)
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        _LOG.warning("%s: cannot accept: %s", _KEY, error.strerror)
                        await asyncio.sleep(_PAUSE)
                    continue
                peer = plain_address(address[0])
                if self._waiting >= MAX_WAITING:
                    self._refusals.refuse("max-connections", peer, f"{MAX_WAITING} others are not done with theirs")
                    connection.close()
                    continue
                task = asyncio.create_task(self._serve(connection, peer))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError):  # gone again
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
        connection.settimeout(0)
        stream = TlsStream(connection, self._context)
        self._opened.inc()
        self._gauge.inc()
        try:
            name = await self._admit(stream, peer)
            if name:
                await self._feed(stream, f"{name} ({peer})")
        finally:
            self._gauge.dec()
            await stream.close()

    async def _admit(self, stream: TlsStream, peer: str) -> str:
        """Shake hands and read the request; return the peer's name, or "" after refusing it."""
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await stream.shake_hands()
                name, permitted = self._name(stream, peer)
                if not await self._answer(stream, name, permitted=permitted):
                    return ""
        except TimeoutError:
            self._refusals.refuse("tls-handshake", peer, f"no request within {PATIENCE:g} s")
        except ssl.SSLCertVerificationError as error:
            self._refusals.refuse("tls-handshake", peer, f"client certificate: {error.verify_message}")
        except ssl.SSLError as error:
            self._refusals.refuse("tls-handshake", peer, reason(error))
        except OSError as error:
            self._refusals.refuse("tls-handshake", peer, error.strerror or str(error))
        else:
            return name
        finally:
            self._waiting -= 1
        return ""

    def _name(self, stream: TlsStream, peer: str) -> tuple[str, bool]:
        """Return the name in the peer's certificate, and whether it may follow."""
        certificate, der = stream.peer()
        names = certificate_names(certificate)
        shown = names[0] if names else "no name"
        if not self._permitted or any(permits(names, der) for permits in self._permitted):
            return shown, True
        digest = hashlib.sha256(der).digest().hex(":").upper()
        self._refusals.refuse("peer-not-permitted", peer, f"not in tls.permitted_peers: {shown}, SHA256:{digest}")
        return shown, False

    async def _answer(self, stream: TlsStream, name: str, *, permitted: bool) -> bool:
        """Read a request and answer it; return whether the feed is to follow."""
        head = b""
        status = 431
        while len(head) <= MAX_HEAD:
            if b"\r\n\r\n" in head:
                status = self._status(head.partition(b"\r\n")[0]) if permitted else 403
                break
            more = await stream.read()
            if not more:
                raise ConnectionResetError("closed by the peer")
            head += more
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Connection: close", "Cache-Control: no-store"]
        if status == _OK:
            await stream.write(_head(*lines, "Content-Type: application/x-ndjson"))
            return True
        if permitted:
            _LOG.warning("%s: %s asks for what is not served: %d %s", _KEY, name, status, _REASONS[status])
        body = json.dumps({"error": _REASONS[status]}).encode() + b"\n"
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Allow: GET"]
        await stream.write(_head(*lines) + body)
        return False

    def _status(self, line: bytes) -> int:
        """Return the status that answers a request line (RFC 9112 section 3)."""
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - method, target, version
            return 400
        if words[1] != b"/follow":
            return 404
        if words[0] != b"GET":
            return 405
        return 503 if len(self._followers) >= feeds.MAX_FOLLOWERS else _OK

    async def _feed(self, stream: TlsStream, who: str) -> None:
        _LOG.info("%s follows", who)
        listening = asyncio.create_task(_until_gone(stream))
        try:
            await self._followers.follow(stream.write, listening.done, remote=True)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            _LOG.info("%s follows no more", who)


async def _until_gone(stream: TlsStream) -> None:
    """Return when the peer has gone; what it says is of no interest."""
    with contextlib.suppress(OSError):
        while await stream.read():
            pass


def _head(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
