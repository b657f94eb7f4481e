"""Syslog over TLS (RFC 5425).

The TLS layer is ssl's SSLObject between two memory buffers, not the event loop's: that one keeps to itself who failed
in a handshake and why, and hands over bytes before the peer's name can be looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import ssl
from typing import TYPE_CHECKING

from logguardd.listeners.connection import Connection, SyslogConnection
from logguardd.listeners.stream import StreamListener
from logguardd.listeners.tls_context import TlsSettings, build_context, certificate_end, reason
from logguardd.listeners.tls_peers import certificate_names, permitted_peer
from logguardd.records import SECOND

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from logguardd.listeners import Sink
    from logguardd.listeners.activation import Inherited
    from logguardd.listeners.limits import Limits
    from logguardd.metrics import Metrics
    from logguardd.records import Origin

_log = logging.getLogger(__name__)

_READ = 65536
# RFC 8446 section 5.1: the content type of the first record of every client that speaks TLS.
_HANDSHAKE = 22
_SHOWN_NAMES = 3


class TlsListener(StreamListener):
    """As StreamListener, after a handshake with a deadline; Origin.tls_identity is the name in the peer's certificate.

    A peer that fails the handshake, or that ``permitted_peers`` does not name, is closed, counted ("tls-handshake",
    "peer-not-permitted") and told in the log. At max_connections the handshake that has taken longest gives way: those
    who have no certificate cannot keep out those who have.
    """

    key = "listen.tls"
    transport = "tls"

    def __init__(
        self,
        specs: Sequence[str],
        settings: TlsSettings,
        sink: Sink,
        metrics: Metrics,
        limits: Limits | None = None,
        *,
        inherited: Inherited | None = None,
    ) -> None:
        """Read the certificate files; raise ConfigError naming key, file and reason."""
        super().__init__(specs, sink, metrics, limits, inherited=inherited)
        self._certificate_end = metrics.certificate_end.labels(self.transport)
        self._shaking_hands: dict[_TlsConnection, None] = {}  # the first one first
        self.reload(settings)

    def reload(self, settings: TlsSettings) -> None:
        """Use these settings for connections from now on; those that are open stay as they are.

        Raise ConfigError when the files are bad; then the settings before stay in force.
        """
        context, warnings = build_context(settings)
        self._permitted = [permitted_peer(peer) for peer in settings.permitted_peers]
        self._context = context
        self._certificate_end.set(certificate_end(context, settings.certificate))
        for warning in warnings:
            _log.warning("%s", warning)

    def connection(self) -> Connection:
        """Return the protocol object for a new connection."""
        return _TlsConnection(self)

    def make_room(self) -> bool:
        """End the handshake that has taken longest; return whether there was any."""
        oldest = next(iter(self._shaking_hands), None)
        if oldest is not None:
            oldest.give_way()
        return oldest is not None

    def shaking_hands(self, connection: _TlsConnection, *, done: bool) -> None:
        """Note the beginning or the end of a handshake."""
        if done:
            self._shaking_hands.pop(connection, None)
        else:
            self._shaking_hands[connection] = None

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return the server's side of a new TLS connection."""
        return self._context.wrap_bio(incoming, outgoing, server_side=True)

    def permits(self, names: Sequence[str], certificate: bytes) -> bool:
        """Return whether a peer with these names and this certificate (DER) may send."""
        return not self._permitted or any(permits(names, certificate) for permits in self._permitted)


class _TlsConnection(SyslogConnection):
    def __init__(self, listener: TlsListener) -> None:
        super().__init__(listener)
        self._tls_listener = listener
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = listener.wrap(self._incoming, self._outgoing)
        self._deadline: asyncio.TimerHandle | None = None  # of the handshake, while it lasts
        self._first: int | None = None
        self._may_write = True

    def begin(self, transport: asyncio.BaseTransport, origin: Origin) -> None:
        super().begin(transport, origin)
        timeout = self._listener.limits.handshake_timeout / SECOND
        self._deadline = self._loop.call_later(timeout, self._fail, f"not done in {timeout:g} s")
        self._tls_listener.shaking_hands(self, done=False)

    def eof_received(self) -> bool | None:
        if self._deadline is not None:
            self._fail("closed by the peer")
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._fail("connection lost")
        super().connection_lost(exc)

    def end(self) -> None:
        # A FIN only: rsyslog looks for it before it sends, and would not see it behind a close_notify.
        super().end()
        self._may_write = False

    def close(self) -> None:
        if self._deadline is not None:
            self._fail("not done when we closed")
            return
        self._say_goodbye()
        super().close()

    def abort(self) -> None:
        self._settle()
        super().abort()

    def give_way(self) -> None:
        """Give up the handshake for another connection."""
        most = self._listener.limits.max_connections
        self._settle()
        self._turn_away("max-connections", f"not done with its handshake; listen.max_connections is {most}")
        super().abort()

    def _take(self, origin: Origin, data: bytes) -> None:
        if self._first is None:
            self._first = data[0]
        self._incoming.write(data)
        if self._deadline is not None:
            identified = self._shake_hands(origin)
            self._send()
            if identified is None:
                return
            self._origin = origin = identified
        plain, error = self._read()
        if plain:
            super()._take(origin, plain)
        self._send()
        if error is not None:
            if not isinstance(error, ssl.SSLZeroReturnError):
                self._listener.refusals.refuse("tls", origin.peer, reason(error))
            self.close()

    def _read(self) -> tuple[bytes, ssl.SSLError | None]:
        """Return the bytes that can be decrypted, and why there will be no more if so."""
        parts = []
        try:
            while part := self._tls.read(_READ):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts), None
        except ssl.SSLError as error:
            return b"".join(parts), error
        return b"".join(parts), ssl.SSLZeroReturnError()

    def _shake_hands(self, origin: Origin) -> Origin | None:
        """Go on with the handshake; once it is done return the origin with the peer's name."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLCertVerificationError as error:
            self._fail(f"client certificate: {error.verify_message}")
            return None
        except ssl.SSLError as error:
            self._fail(reason(error) if self._first == _HANDSHAKE else "it does not speak TLS")
            return None
        self._settle()
        names = certificate_names(self._tls.getpeercert())
        certificate = self._tls.getpeercert(binary_form=True) or b""
        if not self._tls_listener.permits(names, certificate):
            digest = hashlib.sha256(certificate).digest().hex(":").upper()
            shown = ", ".join(names[:_SHOWN_NAMES]) or "no name"
            self._turn_away("peer-not-permitted", f"not in tls.permitted_peers: {shown}, SHA256:{digest}")
            return None
        return origin._replace(tls_identity=names[0] if names else "")

    def _fail(self, why: str) -> None:
        """Give up the handshake."""
        self._settle()
        self._turn_away("tls-handshake", why)

    def _settle(self) -> None:
        """End the handshake, one way or the other."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._tls_listener.shaking_hands(self, done=True)

    def _turn_away(self, counted: str, why: str) -> None:
        self._listener.refusals.refuse(counted, self.peer, why)
        self._finished = True
        self._send()  # the alert that says why
        if self._transport is not None:
            self._transport.close()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError, ValueError):  # the peer's goodbye has not come, or TLS is broken already
            self._tls.unwrap()
        self._send()

    def _send(self) -> None:
        """Write what TLS has to say."""
        data = self._outgoing.read()
        if data and self._may_write and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
