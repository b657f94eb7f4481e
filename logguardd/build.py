"""From the configuration to the parts: the one place that knows which implementation a URL stands for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from logguardd import network, open_files, urls
from logguardd.archive.postgres import PostgresArchive
from logguardd.archive.sqlite import SqliteArchive
from logguardd.firewall.printer import Printer
from logguardd.journal.sqlite import SqliteJournal
from logguardd.limiter.breaker import Breaker
from logguardd.limiter.memory import MemoryLimiter
from logguardd.limiter.redis import RedisLimiter
from logguardd.limiter.shared_bans import SharedBans
from logguardd.listeners.activation import Inherited
from logguardd.listeners.limits import Limits
from logguardd.listeners.relp import RelpListener
from logguardd.listeners.stream import StreamListener
from logguardd.listeners.tls import TlsListener
from logguardd.listeners.tls_context import TlsSettings
from logguardd.listeners.udp import UdpListener
from logguardd.web.follow_server import FollowServer

if TYPE_CHECKING:
    from typing import Any

    from logguardd.archive import Archive
    from logguardd.config.settings import Config
    from logguardd.listeners import Sink
    from logguardd.listeners.activation import Inherited
    from logguardd.metrics import Metrics
    from logguardd.web.followers import Followers

_LOG = logging.getLogger(__name__)

#: Anything that listens.
Listener = UdpListener | StreamListener


def journal(config: Config) -> SqliteJournal:
    """Return the journal, not yet open."""
    given = config.journal
    return SqliteJournal(Path(urls.sqlite_path(given.url)), given.retention, given.max_size)


def archive(config: Config) -> Archive:
    """Return the archive, not yet open."""
    given = config.archive
    if given.url.startswith("sqlite:"):
        return SqliteArchive(Path(urls.sqlite_path(given.url)), given.retention)
    return PostgresArchive(given.url, given.retention)


def limiter(config: Config, metrics: Metrics) -> tuple[MemoryLimiter | Breaker, SharedBans | None]:
    """Return the limiter and, with Redis, the exchange of bans with other daemons there."""
    memory = MemoryLimiter(metrics=metrics)
    url = config.limiter.url
    if url.startswith("memory:"):
        return memory, None
    return Breaker(RedisLimiter(url, metrics), memory, metrics), SharedBans(url, metrics)


def protected(config: Config) -> dict[str, Any]:
    """Return who is never banned, as Allowlist takes it. Asks the kernel and the resolver: call it in a thread."""
    infrastructure, unknown = network.resolve([*urls.hosts(config.archive.url), *urls.hosts(config.limiter.url)])
    for name in unknown:
        _LOG.warning("%s: the name cannot be resolved now; its address is not protected from bans until it can", name)
    try:
        own, gateways = network.own_addresses(), network.default_gateways()
    except OSError as error:
        _LOG.warning("cannot ask the kernel for this host's addresses: %s", error.strerror)
        own, gateways = [], []
    return {
        "networks": config.detection.allowlist,
        "own": own,
        "gateways": gateways,
        "infrastructure": infrastructure,
    }


def tls_settings(config: Config) -> TlsSettings:
    """Return the [tls] section as the listeners take it."""
    tls = config.tls
    return TlsSettings(tls.certificate, tls.private_key, tls.client_ca, tls.permitted_peers)


def listeners(config: Config, sink: Sink, metrics: Metrics, inherited: Inherited) -> list[Listener]:
    """Return the listeners, which take systemd's sockets when started; ConfigError for certificates that are no good."""
    given = config.listen
    limits = Limits(
        max_message=given.max_message,
        max_connections=_connections(config),
        idle_timeout=given.idle_timeout,
        allowed_senders=given.allowed_senders,
    )
    made: list[Listener] = []
    if given.udp:
        made.append(UdpListener(given.udp, sink, metrics, limits, inherited=inherited))
    if given.tcp:
        made.append(StreamListener(given.tcp, sink, metrics, limits, inherited=inherited))
    if given.tls:
        made.append(TlsListener(given.tls, tls_settings(config), sink, metrics, limits, inherited=inherited))
    if given.relp:
        made.append(RelpListener(given.relp, sink, metrics, limits, inherited=inherited))
    return made


def _connections(config: Config) -> int:
    """Return max_connections, or as many as the open files allow.

    Beyond them, a connection could be neither taken nor counted, and the database not be opened again.
    """
    given = config.listen
    most, streams = given.max_connections, sum(map(bool, (given.tcp, given.tls, given.relp)))
    wanted = most * streams + open_files.OWN
    have = open_files.allow(wanted)
    if have >= wanted or not streams:
        return most
    left = max(1, (have - min(open_files.OWN, have // 2)) // streams)
    if left < most:
        _LOG.warning(
            "listen.max_connections: %d for each of %d listeners need %d open files, the limit is %d: taking %d each; "
            "raise it (LimitNOFILE= in the unit, ulimit -n) or lower max_connections",
            most, streams, wanted, have, left,
        )  # fmt: skip
    return min(left, most)


def follow_server(config: Config, followers: Followers, metrics: Metrics) -> FollowServer | None:
    """Return what serves the bans to other hosts, None without http.follow; raise ConfigError as ``listeners`` does."""
    place = config.http.follow
    return FollowServer(place, tls_settings(config), followers, metrics) if place else None


def printer(config: Config) -> Printer | None:
    """Return the printer of the print backend, None for the others: logguardd-firewall runs those."""
    return Printer(config.firewall.output) if config.firewall.backend == "print" else None
