"""TLS clients for tests of the listener."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

from logguardd.listeners.tls import TlsListener
from tests.listening import Receiving

if TYPE_CHECKING:
    from logguardd.listeners.tls_context import TlsSettings
    from tests.servers.certificates import Authority


def receiving(settings: TlsSettings, *specs: str, **more) -> Receiving:
    return Receiving(TlsListener, *specs, settings=settings, **more)


def client_context(authority: Authority, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if name is not None:
        certificate, key = authority.issue(name)
        context.load_cert_chain(certificate, key)
    return context


async def connect(r: Receiving, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", r.port, ssl=context, server_hostname="logs.example.com")


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the server has closed, in whatever way."""
    with contextlib.suppress(OSError):
        while await asyncio.wait_for(reader.read(1000), 5):
            pass
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def turned_away(r: Receiving, context: ssl.SSLContext) -> str:
    """Connect and wait to be closed; return the error that the client saw, if any."""
    try:
        reader, writer = await connect(r, context)
    except OSError as error:
        return str(error)
    try:
        while await asyncio.wait_for(reader.read(1000), 5):
            pass
    except OSError as error:
        return str(error)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return ""
