"""The configuration as frozen dataclasses: every section, key, default and what is allowed, in one place.

Durations are microseconds and sizes bytes. Defaults stand here as they would in the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from logguardd.config import values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logguardd.config.values import Kind
    from logguardd.records import Network

#: Where the configuration is looked for when a command line names none.
DEFAULT_PATH = "/etc/logguardd/logguardd.toml"

#: The length of the prefix that is a single IPv6 address.
SINGLE = 128


def _key(default: object, kind: Kind, *, secret: bool = False) -> Any:
    """Make a key: its default as written in TOML, and what may be written there."""
    metadata = {"kind": kind, "default": default}
    return field(default_factory=lambda: kind.read(default), metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and how messages are received."""

    udp: tuple[str, ...] = _key(["[::]:514"], values.listens())
    tcp: tuple[str, ...] = _key(["[::]:514"], values.listens())
    tls: tuple[str, ...] = _key([], values.listens())
    relp: tuple[str, ...] = _key([], values.listens())
    max_message: int = _key("64KiB", values.a_size("480B", "16MiB"))
    max_connections: int = _key(1000, values.whole(1, 1_000_000))
    idle_timeout: int = _key("10m", values.a_duration("0s"))
    allowed_senders: tuple[Network, ...] = _key([], values.networks())
    timezone: str = _key("local", values.a_zone())


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificates of the TLS listeners and of http.follow; files in PEM."""

    certificate: str = _key("", values.a_path(empty=True))
    private_key: str = _key("", values.a_path(empty=True))
    client_ca: str = _key("", values.a_path(empty=True))
    permitted_peers: tuple[str, ...] = _key(
        [],
        values.names(
            'a list of names in peers\' certificates, "*" for one label', pattern=r"[A-Za-z0-9*_.:@ -]{1,255}"
        ),
    )


@dataclass(frozen=True, slots=True)
class Journal:
    """Where received messages wait for the archive and the detector."""

    url: str = _key("sqlite:///var/lib/logguardd/journal.db", values.a_url("sqlite"), secret=True)
    retention: int = _key("7d", values.a_duration("1m"))
    max_size: int = _key("10GiB", values.a_size("16MiB", "1024TiB"))


@dataclass(frozen=True, slots=True)
class Archive:
    """Where messages are kept."""

    url: str = _key(
        "sqlite:///var/lib/logguardd/archive.db", values.a_url("sqlite", "postgresql", "postgres"), secret=True
    )
    retention: int = _key("90d", values.a_duration("1d"))


@dataclass(frozen=True, slots=True)
class Limiter:
    """Where hits are counted."""

    url: str = _key("memory://", values.a_url("memory", "redis", "rediss", "unix"), secret=True)


@dataclass(frozen=True, slots=True)
class Detection:
    """Rules, and who is never banned."""

    rules: tuple[str, ...] = _key(["/etc/logguardd/rules.d"], values.paths())
    allowlist: tuple[Network, ...] = _key(["127.0.0.0/8", "::1"], values.networks())
    max_clock_skew: int = _key("300s", values.a_duration("0s"))
    services: Mapping[str, int] = _key({}, values.ports())


@dataclass(frozen=True, slots=True)
class Jail:
    """Which hits count, how many of them in which time ban, and for how long."""

    enabled: bool = _key(default=True, kind=values.flag())
    hits: tuple[str, ...] = _key(
        ["*"],
        values.names('a list of tags or names of rules, or "*" for all', least=1, pattern=r"\*|[A-Za-z0-9_.:/-]+"),
    )
    group_by: tuple[str, ...] = _key(
        ["address", "port"],
        values.names('["address"], or ["address", "port"] for every port by itself', "address", "port", least=1),
    )
    window: int = _key("60s", values.a_duration("1s"))
    threshold: int = _key(100, values.whole(0, 100_000))
    ban: int = _key("5m", values.a_duration("1s"))
    escalation: float = _key(1, values.factor(1, 100))
    max_ban: int = _key("7d", values.a_duration("1s"))
    ipv6_prefix: int = _key(SINGLE, values.whole(16, SINGLE))


@dataclass(frozen=True, slots=True)
class Firewall:
    """Which tool puts bans into the kernel."""

    backend: str = _key("print", values.choice("nftables", "iptables", "print"))
    output: str = _key("-", values.an_output())


@dataclass(frozen=True, slots=True)
class Http:
    """Health and metrics over TCP, control over a Unix socket, the ban feed for other hosts over HTTPS."""

    listen: str = _key("127.0.0.1:9514", values.an_endpoint())
    follow: str = _key("", values.an_endpoint())
    control: str = _key("/run/logguardd/control.sock", values.a_path())


#: The jails that are there without being asked for, as their tables would stand in the file.
SHIPPED_JAILS: dict[str, dict[str, object]] = {
    "flood": {"hits": ["*"], "group_by": ["address", "port"], "window": "60s", "threshold": 100, "ban": "5m"},
    "auth": {
        "hits": ["auth-failure"],
        "group_by": ["address"],
        "window": "5m",
        "threshold": 5,
        "ban": "10m",
        "escalation": 2,
        "max_ban": "7d",
        "ipv6_prefix": 64,
    },
}


def _shipped_jails() -> dict[str, Jail]:
    kinds = {item.name: item.metadata["kind"] for item in fields(Jail)}
    return {
        name: Jail(**{key: kinds[key].read(value) for key, value in table.items()})
        for name, table in SHIPPED_JAILS.items()
    }


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set; ``Config()`` is the defaults.

    ``source`` is the file it was read from ("" for none), ``embedded`` the folder of ``config.embedded`` ("" for
    none), ``lines`` the line of each key that stands in the file, ``written`` the [listen] section as it was read, where
    ``listen`` takes sockets that were opened before privileges were dropped.
    """

    log_level: str = _key("info", values.choice("debug", "info", "warning", "error"))
    log_format: str = _key("auto", values.choice("auto", "text", "json"))
    user: str = _key("logguardd", values.text("the name of a user"))
    group: str = _key("", values.text("the name of a group", empty=True))
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    journal: Journal = field(default_factory=Journal)
    archive: Archive = field(default_factory=Archive)
    limiter: Limiter = field(default_factory=Limiter)
    detection: Detection = field(default_factory=Detection)
    jail: Mapping[str, Jail] = field(default_factory=_shipped_jails)
    firewall: Firewall = field(default_factory=Firewall)
    http: Http = field(default_factory=Http)
    source: str = field(default="", compare=False)
    embedded: str = field(default="", compare=False)
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, compare=False, repr=False)
    written: Listen | None = field(default=None, compare=False, repr=False)

    @classmethod
    def defaults(cls) -> Config:
        """Return the built-in defaults."""
        return cls()

    def where(self, *path: str) -> str:
        """Say where a key stands, to begin an error with: ``FILE:LINE: section.key``, or ``section.key``."""
        return located(self.source, self.lines, path)


#: The sections of the file, besides [jail.NAME].
SECTIONS: dict[str, type] = {
    "listen": Listen,
    "tls": Tls,
    "journal": Journal,
    "archive": Archive,
    "limiter": Limiter,
    "detection": Detection,
    "firewall": Firewall,
    "http": Http,
}


class Key(NamedTuple):
    """One key of a section: its name, what may be written, and its default as written in TOML."""

    name: str
    kind: Kind
    default: object


def keys(section: type) -> tuple[Key, ...]:
    """Return the keys of a section's class, in the order of the documentation."""
    return tuple(
        Key(item.name, item.metadata["kind"], item.metadata["default"]) for item in fields(section) if item.metadata
    )


def located(source: str, lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> str:
    """Return ``FILE:LINE: section.key``; the line of the nearest table around a key that has none."""
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
    place = f"{source}:{line}: " if source and line else f"{source}: " if source else ""
    return place + ".".join(path)
