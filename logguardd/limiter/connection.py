"""Connections to Redis: a client from a URL, checked; short timeouts, no retries behind our back; one error for all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import ssl
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from logguardd import urls
from logguardd.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

_T = TypeVar("_T")

#: Seconds that a read, a write or a connect may take.
TIMEOUT = 0.5
#: Seconds after which an idle connection is tried with a PING before it is used.
_HEALTH_CHECK = 15

_SCHEMES = ("redis", "rediss", "unix")
_ALLOWED = (
    "redis://HOST[:PORT][/DB], rediss:// the same with TLS, unix:///PATH[?db=DB]; USER:PASSWORD@ may stand after the //"
)
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_RESP3_SINCE = 5
# Where in a script of ours Redis found what it says; nobody but its author wants to know.
_PLACE = re.compile(r",? *(?:script: [0-9a-f]{40}, on )?@user_script:[0-9]+:?.*$")
# What servers of a cluster say, of which one would have to be asked for each key.
_CLUSTER = re.compile(
    r"^(?:MOVED|ASK|CLUSTERDOWN|CROSSSLOT|TRYAGAIN)\b|hash slot|the cluster is down|same slot|cluster node",
    re.IGNORECASE,
)


class Server:
    """One Redis server: its client, and its name for messages (without the password)."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        """Check the URL and make the client, without connecting; raise errors.ConfigError for a URL that is wrong.

        ``?db=N`` goes with unix://; ssl_ca_certs, ssl_certfile, ssl_keyfile (PEM files), ssl_cert_reqs (required,
        optional, none) and ssl_check_hostname (true, false) go with rediss://.
        """
        self.name = urls.redact(url).partition("?")[0]
        try:
            options = _options(url)
        except ValueError as error:
            raise ConfigError(f'Redis URL "{self.name}": {error}; allowed: {_ALLOWED}') from None
        if int(redis.__version__.partition(".")[0]) >= _RESP3_SINCE:
            options["protocol"] = 2
        self.timeout = timeout
        self.client: Redis = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=TIMEOUT,
            health_check_interval=_HEALTH_CHECK,
            client_name="logguardd",
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    async def execute(self, *command: object) -> Any:
        """Send a command and return its answer (texts are bytes); raise what redis-py raises: use it in reach()."""
        return await self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def reach(self, work: Awaitable[_T]) -> _T:
        """Return what ``work`` gives, which talks to Redis; no half-read answer stays behind, whatever happens.

        Raises errors.UnavailableError for whatever goes wrong on the way to Redis or there.
        """
        # A task of its own: redis-py's timeouts can lose or forge a cancellation (of ours, by Python 3.11's wait_for;
        # of the task it runs in, by async_timeout).
        task = asyncio.ensure_future(_awaited(work))
        try:
            await asyncio.wait({task}, timeout=2 * self.timeout)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        if not task.done() or task.cancelled():
            await self._abandon(task)
            raise UnavailableError(f"Redis at {self.name}: no answer in time")
        try:
            return task.result()
        except Exception as error:  # redis-py fails in many ways when a connection is closed under it
            await self.drop()
            raise UnavailableError(f"Redis at {self.name}: {_reason(error)}") from error

    async def _abandon(self, task: asyncio.Future[_T]) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=self.timeout)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await self.drop()

    async def drop(self) -> None:
        """Close the connections; the next command opens a new one."""
        with contextlib.suppress(Exception):
            await self.client.connection_pool.disconnect()


@cache
def script_text(name: str) -> str:
    """Return the text of the Lua script ``name`` beside this module; the file is read once."""
    return Path(__file__).with_name(name).read_text("utf-8")


class Script:
    """A Lua script beside this module, run by its digest; sent whole only when Redis does not know it (any more)."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._text = script_text(name)
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, keys: Sequence[str], *arguments: object) -> Any:
        """Return what the script returns; raise errors.UnavailableError. The script may be run a second time."""
        return await self._server.reach(self._run((len(keys), *keys, *arguments)))

    async def _run(self, words: tuple[object, ...]) -> Any:
        try:
            return await self._evaluate(words)
        except RedisConnectionError:
            # The connection may be from before a restart of Redis: no reason to give up.
            return await self._evaluate(words)

    async def _evaluate(self, words: tuple[object, ...]) -> Any:
        try:
            return await self._server.execute("EVALSHA", self._digest, *words)
        except NoScriptError:
            return await self._server.execute("EVAL", self._text, *words)


async def _awaited(work: Awaitable[_T]) -> _T:
    return await work


def _reason(error: BaseException) -> str:
    # Some versions of redis-py show the system's error as its bare number; its own TimeoutError is not the system's.
    system: BaseException | None = error
    while system is not None and not isinstance(system, OSError):
        system = system.__context__
    if isinstance(system, TimeoutError) or isinstance(error, RedisTimeoutError):
        return "no answer in time"
    if isinstance(system, OSError) and not isinstance(system, ssl.SSLError):
        # asyncio puts words of its own beside an errno; getaddrinfo's numbers are below zero.
        words = os.strerror(system.errno) if system.errno and system.errno > 0 else system.strerror
        return words or str(system)
    words = _PLACE.sub("", str(system or error)).rstrip(". ") or type(error).__name__
    return (
        f"{words}; it is part of a Redis Cluster: use a single or replicated Redis" if _CLUSTER.search(words) else words
    )


def _options(url: str) -> dict[str, Any]:
    """Return the client's options besides those in the URL; raise ValueError where the URL is wrong."""
    urls.check(url, _SCHEMES)
    parts = urlsplit(url)
    known = {"redis": (), "rediss": _TLS_OPTIONS, "unix": ("db",)}[parts.scheme]
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise ValueError(f'"?{name}=" is not known with {parts.scheme}://')
    if not given.get("db", "0").isdecimal():
        raise ValueError(f'database "{given["db"]}" is not a number')
    return _tls(given) if parts.scheme == "rediss" else {}


def _tls(given: dict[str, str]) -> dict[str, Any]:
    if given.get("ssl_cert_reqs", "required") not in {"required", "optional", "none"}:
        raise ValueError(f'ssl_cert_reqs "{given["ssl_cert_reqs"]}" is not required, optional or none')
    if given.get("ssl_check_hostname", "true") not in {"true", "false"}:
        raise ValueError(f'ssl_check_hostname "{given["ssl_check_hostname"]}" is not true or false')
    if ("ssl_certfile" in given) != ("ssl_keyfile" in given):
        raise ValueError("ssl_certfile and ssl_keyfile go together")
    for name, load in (
        ("ssl_ca_certs", lambda: ssl.create_default_context(cafile=given["ssl_ca_certs"])),
        (
            "ssl_certfile",
            lambda: ssl.create_default_context().load_cert_chain(given["ssl_certfile"], given["ssl_keyfile"]),
        ),
    ):
        if name in given:
            try:
                load()
            except OSError as error:  # ssl.SSLError is one
                raise ValueError(f'{name} "{given[name]}" cannot be used: {error.strerror or error}') from None
    checked = given.get("ssl_cert_reqs", "required") == "required"
    # redis-py's own default has changed between versions.
    return {"ssl_check_hostname": checked and given.get("ssl_check_hostname", "true") == "true"}
