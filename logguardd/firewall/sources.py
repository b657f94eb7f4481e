"""Where a follower's feed comes from: the daemon's control socket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

from logguardd.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

_CONNECT = 5.0
_READ = 1 << 18


class Source(Protocol):
    """A place that serves the ban feed."""

    def open(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Connect and give the feed's bytes as they come; raise errors.UnavailableError, also while they are read."""


@dataclass(frozen=True, slots=True)
class UnixSource:
    """``GET /follow`` of the control socket at ``path``."""

    path: str

    def __str__(self) -> str:
        """Show the source as a command line names it."""
        return f"unix:{self.path}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Connect; see Source."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
        connector = aiohttp.UnixConnector(self.path)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_READ) as session,
                session.get("http://localhost/follow") as response,
            ):
                if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                    raise UnavailableError(f"{self}: the daemon answered {response.status} {response.reason}")
                yield response.content.iter_any()
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or str(error.os_error)
            raise UnavailableError(f"{self}: {why}; is logguardd running?") from None
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{self}: {error or type(error).__name__}") from None


def parse_source(text: str) -> Source:
    """Return the source that ``text`` names, unix:PATH; raise errors.ConfigError for anything else."""
    scheme, _, path = text.partition(":")
    if scheme != "unix" or not path.startswith("/"):
        raise ConfigError(
            f"--follow: {text}: not a source; allowed: unix:PATH, for example unix:/run/logguardd/control.sock"
        )
    return UnixSource(path)
