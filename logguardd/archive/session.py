"""A connection to PostgreSQL that is made when it is needed, and asyncpg's errors in words for an operator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import asyncpg

from logguardd.errors import ConfigError, UnavailableError
from logguardd.urls import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds to connect, and for one transaction: a server that does not answer is as good as away.
_CONNECT = 10.0
_TRANSACTION = 60.0
#: Seconds for a polite goodbye.
_CLOSE = 1.0

#: PostgreSQL counts microseconds from 2000-01-01T00:00:00Z, logguardd from 1970-01-01T00:00:00Z.
_EPOCH = 946_684_800_000_000

#: What asyncpg and its encoders raise about a value, not about the server: SQLSTATE classes 22 (data exception) and 23
#: (integrity constraint), 54000 (a value too large), and Python's own.
REFUSED = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
    ValueError,
    TypeError,
    OverflowError,
    struct.error,
)

#: What the server, the network, or asyncpg when a connection dies under it, raise.
_SERVER = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.exceptions.InternalClientError)

_INT64 = struct.Struct(">q")


def encode_time(time: int) -> bytes:
    """Return microseconds since 1970 as timestamptz's binary form (src/backend/utils/adt/timestamp.c)."""
    return _INT64.pack(time - _EPOCH)


def decode_time(value: bytes) -> int:
    """Return timestamptz's binary form as microseconds since 1970."""
    time: int = _INT64.unpack(value)[0]
    return time + _EPOCH


def encode_inet(text: str) -> bytes:
    """Return an address, or a network with its prefix length, as inet's binary form (utils/adt/network.c).

    asyncpg's own encoder makes ipaddress objects, which costs 3 µs an address. Raises ValueError for any other text.
    """
    address, slash, length = text.partition("/")
    try:
        if ":" in address:
            packed, head = socket.inet_pton(socket.AF_INET6, address), b"\x03\x80\x00\x10"
        else:
            packed, head = socket.inet_pton(socket.AF_INET, address), b"\x02\x20\x00\x04"
    except OSError:
        raise ValueError(f"not an IP address: {text[:64]!r}") from None
    if slash:
        head = bytes((head[0], int(length), 0, head[3]))
    return head + packed


def decode_inet(value: bytes) -> str:
    """Return inet's binary form as text, with the prefix length where it is not the address's whole length."""
    family, length, packed = value[0], value[1], value[4:]
    text = socket.inet_ntop(socket.AF_INET if family == 2 else socket.AF_INET6, packed)  # noqa: PLR2004 - PGSQL_AF_INET
    return text if length == len(packed) * 8 else f"{text}/{length}"


class Session:
    """One connection, opened at the first use and after an error; one block of code uses it at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = asyncio.Lock()
        self._connection: Any = None
        self.where = redact(url)

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """Give the connection to a block; what goes wrong inside with the server becomes errors.UnavailableError.

        The connection is dropped whenever the block raises, so that nothing half done stays in it. Raises
        errors.ConfigError for a URL that means nothing.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(_TRANSACTION):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect()
                    yield self._connection
            except BaseException as error:
                self._drop()
                if isinstance(error, TimeoutError):
                    raise UnavailableError(f"PostgreSQL {self.where}: no answer within {_TRANSACTION:.0f} s") from error
                if isinstance(error, _SERVER):
                    raise UnavailableError(f"PostgreSQL {self.where}: {_words(error)}") from error
                raise

    async def _connect(self) -> Any:
        try:
            connection = await asyncpg.connect(
                self._url, timeout=_CONNECT, server_settings={"application_name": "logguardd"}
            )
        except TimeoutError as error:
            raise UnavailableError(f"PostgreSQL {self.where}: no connection within {_CONNECT:.0f} s") from error
        except (ValueError, asyncpg.InterfaceError) as error:  # what asyncpg cannot make sense of in a URL
            raise ConfigError(f"[archive] url: {self.where}: {_words(error)}") from error
        try:
            for name, encode, decode in (
                ("timestamptz", encode_time, decode_time),
                ("inet", encode_inet, decode_inet),
            ):
                await connection.set_type_codec(
                    name, schema="pg_catalog", encoder=encode, decoder=decode, format="binary"
                )
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close the connection; it comes back when it is used again."""
        async with self._lock:
            if self._connection is not None:
                with contextlib.suppress(Exception):
                    await self._connection.close(timeout=_CLOSE)
                self._drop()


def _words(error: BaseException) -> str:
    """Return an error's first line; the system's words for what a socket raised, or a file such as ~/.pgpass."""
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno:
        file = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return f"{file}{os.strerror(error.errno)}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
