"""Where a follower's feed comes from: the daemon's control socket, or its HTTPS listener on another host."""

from __future__ import annotations

import contextlib
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import aiohttp

from logguardd.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

#: Where a host of the fleet has its certificate: rsyslog may read there, also where AppArmor confines it.
CLIENT_FOLDER = "/etc/rsyslog.d/logguardd"
#: The port of http.follow, by custom.
PORT = 9515

_CONNECT = 10.0
_READ = 1 << 18
_OK = 200
_REASON = re.compile(r"\[SSL: ([A-Z0-9_]+)\]")
_ALLOWED = "unix:PATH, for example unix:/run/logguardd/control.sock, or https://HOST[:PORT]"


class Source(Protocol):
    """A place that serves the ban feed."""

    @property
    def peers(self) -> Sequence[IPv4Address | IPv6Address]:
        """Where the feed came from last: addresses whose ban would cut it off."""

    def open(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Connect and give the feed's bytes as they come; raise errors.UnavailableError, also while they are read."""


@dataclass(frozen=True, slots=True)
class UnixSource:
    """``GET /follow`` of the control socket at ``path``."""

    path: str

    def __str__(self) -> str:
        """Show the source as a command line names it."""
        return f"unix:{self.path}"

    @property
    def peers(self) -> Sequence[IPv4Address | IPv6Address]:
        """None: the daemon is on this host."""
        return ()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Connect; see Source."""
        try:
            async with _get(aiohttp.UnixConnector(self.path), "http://localhost/follow", str(self)) as response:
                yield response.content.iter_any()
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or str(error.os_error)
            raise UnavailableError(f"{self}: {why}; is logguardd running?") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{self}: {_failure(error)}") from None


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority that signed the server's certificate, and this host's own with its key."""

    ca: str = f"{CLIENT_FOLDER}/ca.pem"
    certificate: str = f"{CLIENT_FOLDER}/cert.pem"
    private_key: str = f"{CLIENT_FOLDER}/key.pem"

    def context(self) -> ssl.SSLContext:
        """Return a client's context (TLS 1.2 and up, the server's name is checked); ConfigError names option and file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.ca)
        except OSError as error:
            raise ConfigError(f"--ca: {self.ca}: {_words(error)}") from None
        for option, path in (("--cert", self.certificate), ("--key", self.private_key)):
            try:
                with open(path, "rb"):  # noqa: PTH123 - to say which of the two cannot be read
                    pass
            except OSError as error:
                raise ConfigError(f"{option}: {path}: {error.strerror}") from None
        try:
            context.load_cert_chain(self.certificate, self.private_key, password="")
        except OSError as error:
            raise ConfigError(f"--cert, --key: {self.certificate}, {self.private_key}: {_words(error)}") from None
        return context


class HttpsSource:
    """``GET /follow`` of a daemon's HTTPS listener (http.follow). The files are read again for each connection."""

    def __init__(self, host: str, port: int, certificates: Certificates) -> None:
        """Raise ConfigError for certificates that are no good."""
        self._url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._certificates = certificates
        self._peers: tuple[IPv4Address | IPv6Address, ...] = ()
        certificates.context()

    def __str__(self) -> str:
        """Show the source as a command line names it."""
        return self._url

    @property
    def peers(self) -> Sequence[IPv4Address | IPv6Address]:
        """The server's address at the last connection."""
        return self._peers

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Connect; see Source."""
        try:
            connector = aiohttp.TCPConnector(ssl=self._certificates.context())
            async with _get(connector, f"{self}/follow", str(self)) as response:
                self._remember(response)
                yield response.content.iter_any()
        except ConfigError as error:
            raise UnavailableError(str(error)) from None
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", None) or str(error.certificate_error)
            raise UnavailableError(f"{self}: the server's certificate: {why}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{self}: {_failure(error)}") from None

    def _remember(self, response: aiohttp.ClientResponse) -> None:
        where = response.connection.transport if response.connection else None
        name = where.get_extra_info("peername") if where else None
        if name:
            with contextlib.suppress(ValueError):
                address = ip_address(str(name[0]).partition("%")[0])
                self._peers = (getattr(address, "ipv4_mapped", None) or address,)


def parse_source(text: str, certificates: Certificates | None = None) -> Source:
    """Return the source that ``text`` names: unix:PATH, or https://HOST[:PORT] with ``certificates``.

    Raises errors.ConfigError for anything else, and for certificates that are no good.
    """
    scheme, _, path = text.partition(":")
    if scheme == "unix" and path.startswith("/"):
        return UnixSource(path)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme != "https" or not host or parts.path.strip("/") or parts.query or parts.fragment or "@" in text:
        raise ConfigError(f"--follow: {text}: not a source; allowed: {_ALLOWED}")
    return HttpsSource(host, port, certificates or Certificates())


@asynccontextmanager
async def _get(connector: aiohttp.BaseConnector, url: str, name: str) -> AsyncIterator[aiohttp.ClientResponse]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_READ) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != _OK:
            raise UnavailableError(f"{name}: the daemon answered {response.status} {response.reason}")
        yield response


def _failure(error: BaseException) -> str:
    """Say what went wrong: where TLS stands behind it, what TLS has to say."""
    # aiohttp passes some of them on as their text only.
    if found := _REASON.search(str(error)):
        words = found[1].replace("_", " ").lower()
        return f"the server refuses our certificate: {words}" if "alert" in words else words
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"no connection within {_CONNECT:.0f} s"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server hung up"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke off"
    return str(error) or type(error).__name__


def _words(error: OSError) -> str:
    """Return an error's words without OpenSSL's file names."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError):
        return reason.replace("_", " ").lower() if reason else "not PEM"
    return error.strerror or str(error)
