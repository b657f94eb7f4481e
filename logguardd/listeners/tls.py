"""Syslog over TLS (RFC 5425)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from typing import TYPE_CHECKING

from logguardd.listeners.stream import StreamListener, SyslogConnection
from logguardd.listeners.tls_context import TlsSettings, build_context, reason
from logguardd.listeners.tls_peers import certificate_names, permitted_peer
from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logguardd.listeners import Sink
    from logguardd.listeners.activation import Inherited
    from logguardd.listeners.limits import Limits
    from logguardd.metrics import Metrics
    from logguardd.records import Origin

_log = logging.getLogger(__name__)

_HANDSHAKE_FAILED = "tls-handshake"
# Seconds that a peer gets to answer our close_notify.
_SHUTDOWN = 1.0
_SHOWN_NAMES = 3


class TlsListener(StreamListener):
    """As StreamListener, after a handshake with a deadline; Origin.tls_identity is the certificate's name.

    A peer that fails the handshake, or that ``permitted_peers`` does not name, is counted ("tls-handshake",
    "peer-not-permitted") and told in the log.
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
        self._handshakes: set[asyncio.Task[None]] = set()
        self.reload(settings)

    def reload(self, settings: TlsSettings) -> None:
        """Use these settings for connections from now on; those that are open stay as they are.

        Raise ConfigError when the files are bad; then the settings before stay in force.
        """
        context, warnings = build_context(settings)
        self._permitted = [permitted_peer(peer) for peer in settings.permitted_peers]
        self._context = context
        for warning in warnings:
            _log.warning("%s", warning)

    @property
    def occupied(self) -> int:
        """Return how many connections count toward max_connections: those in their handshake too."""
        return super().occupied + len(self._handshakes)

    async def stop(self) -> None:
        """As StreamListener.stop; handshakes under way are given up."""
        self.pause()
        handshakes = list(self._handshakes)
        for handshake in handshakes:
            handshake.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        await super().stop()

    def begin_handshake(self, transport: asyncio.Transport, origin: Origin) -> None:
        """Start the handshake on an admitted connection."""
        handshake = asyncio.get_running_loop().create_task(self._shake_hands(transport, origin))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)

    def _accepting(self) -> asyncio.Protocol:
        return _Accepted(self)

    async def _shake_hands(self, plain: asyncio.Transport, origin: Origin) -> None:
        connection = _TlsConnection(self)
        timeout = self.limits.handshake_timeout / SECOND
        try:
            # start_tls, not create_server(ssl=...): that one keeps to itself who failed and why.
            transport = await asyncio.get_running_loop().start_tls(
                plain, connection, self._context, server_side=True,
                ssl_handshake_timeout=timeout, ssl_shutdown_timeout=_SHUTDOWN,
            )  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            self.refuse(plain, _HANDSHAKE_FAILED, origin.peer, f"client certificate: {error.verify_message}")
            return
        except ssl.SSLError as error:
            self.refuse(plain, _HANDSHAKE_FAILED, origin.peer, reason(error))
            return
        except OSError as error:  # a reset, and the timeout (ConnectionAbortedError)
            self.refuse(plain, _HANDSHAKE_FAILED, origin.peer, str(error) or "connection lost")
            return
        except asyncio.CancelledError:
            plain.abort()
            raise
        if transport is None:  # closed at the same moment
            self.refuse(plain, _HANDSHAKE_FAILED, origin.peer, "connection lost")
            return
        names = certificate_names(transport.get_extra_info("peercert"))
        if self._permitted and not self._permits(names, origin, transport):
            return
        connection.identified(transport, origin._replace(tls_identity=names[0] if names else ""))

    def _permits(self, names: Sequence[str], origin: Origin, transport: asyncio.Transport) -> bool:
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""
        if any(permits(names, certificate) for permits in self._permitted):
            return True
        digest = hashlib.sha256(certificate).digest().hex(":").upper()
        shown = ", ".join(names[:_SHOWN_NAMES]) or "no name"
        detail = f"not in tls.permitted_peers: certificate of {shown}, SHA256:{digest}"
        self.refuse(transport, "peer-not-permitted", origin.peer, detail)
        return False


class _Accepted(asyncio.Protocol):
    """A TCP connection before its handshake: admitted or refused, and not read."""

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        origin = self._listener.admit(transport)
        if origin is not None:
            assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
            transport.pause_reading()
            self._listener.begin_handshake(transport, origin)


class _TlsConnection(SyslogConnection):
    """A connection that may get bytes, and its end, in the moment between the handshake and identified()."""

    def __init__(self, listener: TlsListener) -> None:
        super().__init__(listener)
        self._early: list[bytes] | None = []
        self._lost_early = False

    def identified(self, transport: asyncio.Transport, origin: Origin) -> None:
        """Begin, knowing who the peer is; take what came before."""
        self.begin(transport, origin)
        early, self._early = self._early, None
        for data in early or ():
            self.data_received(data)
        if self._lost_early:
            self.connection_lost(None)

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early.append(data)
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._early is not None:
            self._lost_early = True
        else:
            super().connection_lost(exc)
