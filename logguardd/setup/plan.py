"""What is to be set up, and which keys of the configuration that changes; pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING

from logguardd import urls
from logguardd.config import settings, toml_text
from logguardd.notation import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from logguardd.config.settings import Config
    from logguardd.records import Network
    from logguardd.setup.edit import Place

#: Ports by custom: syslog over TLS (RFC 5425), and the ban feed.
TLS_PORT, FOLLOW_PORT = 6514, 9515


@dataclass(frozen=True, slots=True)
class Wishes:
    """What flags and answers say. None, and where nothing is named, leave the configuration as it is.

    ``postgres`` and ``redis`` are URLs; ``firewall`` is a backend; ``allow`` never bans and ``senders`` may send;
    ``port`` is for UDP and TCP (0: none), ``tls_port`` and ``follow_port`` for TLS and the fleet's firewalls (0: none).
    ``certificates`` are the paths for [tls]: certificate, private key, client CA.
    """

    embedded: bool = False
    postgres: str | None = None
    redis: str | None = None
    firewall: str | None = None
    allow: tuple[Network, ...] = ()
    senders: tuple[Network, ...] | None = None
    port: int | None = None
    tls_port: int | None = None
    follow_port: int | None = None
    certificates: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One key that gets another value; ``old`` is what is in force."""

    place: Place
    old: object
    new: object

    def __str__(self) -> str:
        """Show the change without passwords."""
        section, key = self.place
        return f"{section}.{key}: {_shown(self.old)} -> {_shown(self.new)}"


def changes(config: Config, wishes: Wishes) -> list[Change]:
    """Return what in ``config`` is to be changed; nothing that is so already."""
    wanted = dict(_wanted(config, wishes))
    found = []
    for (section, key), new in wanted.items():
        part = getattr(config, section)
        kind = next(each.kind for each in settings.keys(type(part)) if each.name == key)
        old = kind.show(getattr(part, key))
        if _plain(old) != _plain(new):
            found.append(Change((section, key), _plain(old), _plain(new)))
    return found


def as_mapping(found: Iterable[Change]) -> Mapping[Place, object]:
    """Return changes as edit.put takes them."""
    return {change.place: change.new for change in found}


def untouched(config: Config, found: Iterable[Change]) -> bool:
    """Whether no change replaces what an operator wrote in the file: it only adds to it, or there is only the default."""
    return not [change for change in found if change.place in config.lines and not _adds(change)]


def _adds(change: Change) -> bool:
    old, new = change.old, change.new
    return isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old


def _wanted(config: Config, wishes: Wishes) -> Iterable[tuple[Place, object]]:
    base = settings.Config()
    if wishes.embedded:
        yield ("archive", "url"), base.archive.url
        yield ("limiter", "url"), base.limiter.url
    if wishes.postgres is not None:
        yield ("archive", "url"), wishes.postgres
    if wishes.redis is not None:
        yield ("limiter", "url"), wishes.redis
    if wishes.firewall is not None:
        yield ("firewall", "backend"), wishes.firewall
    if new := [network for network in wishes.allow if not _covered(network, config.detection.allowlist)]:
        yield ("detection", "allowlist"), [*map(_text, config.detection.allowlist), *map(_text, new)]
    if wishes.senders is not None:
        yield ("listen", "allowed_senders"), [_text(network) for network in wishes.senders]
    yield from _listeners(config, wishes)
    if wishes.certificates is not None:
        for key, path in zip(("certificate", "private_key", "client_ca"), wishes.certificates, strict=True):
            yield ("tls", key), path


def _listeners(config: Config, wishes: Wishes) -> Iterable[tuple[Place, object]]:
    if wishes.port is not None:
        for key in ("udp", "tcp"):
            yield ("listen", key), _places(getattr(config.listen, key), wishes.port)
    if wishes.tls_port is not None:
        yield ("listen", "tls"), _places(config.listen.tls, wishes.tls_port)
    if wishes.follow_port is not None:
        yield ("http", "follow"), _places([config.http.follow], wishes.follow_port, [""])[0]


def _places(current: Iterable[str], port: int, nowhere: list[str] | None = None) -> list[str]:
    """Return where to listen with this port; what is there already, by whatever address, if it has the port."""
    if not port:
        return nowhere or []
    here = [place for place in current if port_of(place) == port]
    return here or [f"[::]:{port}"]


def port_of(place: str) -> int | None:
    """Return the port of a place to listen at, None for a socket of systemd's and for none."""
    if not place or place.startswith("systemd:"):
        return None
    return endpoint(place)[1]


def _covered(network: Network, by: Iterable[Network]) -> bool:
    return any(network.version == each.version and network.subnet_of(each) for each in by)  # type: ignore[arg-type]


def _text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def network(text: str) -> Network:
    """Return the network that a person named; ValueError for what is none."""
    return ip_network(text.strip(), strict=False)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple | list) else value


def _shown(value: object) -> str:
    return urls.redact(toml_text.value(value))
