"""The server's side of one TLS connection, on a non-blocking socket and two memory buffers.

The event loops' own TLS keeps to itself why a handshake failed, and hangs up without telling the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = 1 << 16
# More at once would only lie in the buffer.
_WRITE = 1 << 18
#: Seconds that a goodbye may take.
_GOODBYE = 1.0


class TlsStream:
    """Takes over ``connection``. Everything may raise OSError (ssl.SSLError is one); the caller sets deadlines.

    One task may read while another writes, not more.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        """Do the handshake; a peer that fails it is told why before this raises."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                await self._flush()  # the alert
                raise
            if not await self._fill():
                raise ConnectionResetError("closed by the peer")
        await self._flush()

    def peer(self) -> tuple[Mapping[str, Any] | None, bytes]:
        """Return the peer's verified certificate, as ssl gives it and as DER."""
        return self._tls.getpeercert(), self._tls.getpeercert(binary_form=True) or b""

    async def read(self) -> bytes:
        """Return some bytes, b"" at the end."""
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                if not await self._fill():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; returns once the kernel has it."""
        view = memoryview(data)
        for start in range(0, len(view), _WRITE):
            self._tls.write(view[start : start + _WRITE])
            await self._flush()

    async def close(self) -> None:
        """Say goodbye, wait a moment for the peer to have read it, and close. Nobody may read or write any more."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                await self._flush()
                self._socket.shutdown(socket.SHUT_WR)
                # Closing with something unread would be a reset, and take back what the peer has not read yet.
                while await self._loop.sock_recv(self._socket, _READ):
                    pass
        self._socket.close()

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self._socket, _READ)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        while self._outgoing.pending:
            await self._loop.sock_sendall(self._socket, self._outgoing.read())
