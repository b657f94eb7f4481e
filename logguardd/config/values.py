"""The kinds of values in the configuration: how each is written in TOML, what is allowed, how it is shown again."""

# A wrong type in the file is a wrong value to the reader: ValueError throughout.
# ruff: noqa: TRY004

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from logguardd import urls
from logguardd.networks import unmapped
from logguardd.notation import MAX_PORT, duration, endpoint, show_duration, show_size, shown, size, zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from logguardd.records import Network

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SOCKET_NAME = re.compile(r"[!-9;-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    ``read`` takes what tomllib gave and returns the value, or raises ValueError saying what is wrong; ``show`` is its
    inverse; ``allowed`` says what may be written.
    """

    allowed: str
    read: Callable[[object], Any]
    show: Callable[[Any], object] = lambda value: value


def _string(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{shown(raw)} is not a string")
    if not raw.isprintable():
        raise ValueError("there is a control character in it")
    return raw


def _items(raw: object) -> list[object]:
    if not isinstance(raw, list):
        raise ValueError(f"{shown(raw)} is not a list")
    return raw


def text(allowed: str, *, empty: bool = False) -> Kind:
    """Any printable text."""

    def read(raw: object) -> str:
        if not (value := _string(raw)) and not empty:
            raise ValueError("it is empty")
        return value

    return Kind(allowed, read)


def choice(*names: str) -> Kind:
    """One of a few words."""

    def read(raw: object) -> str:
        if (value := _string(raw)) not in names:
            raise ValueError(f"{shown(raw)} is none of them")
        return value

    return Kind(", ".join(f'"{name}"' for name in names), read)


def flag() -> Kind:
    """Either true or false."""

    def read(raw: object) -> bool:
        if not isinstance(raw, bool):
            raise ValueError(f"{shown(raw)} is neither")
        return raw

    return Kind("true or false", read)


def whole(least: int, most: int) -> Kind:
    """Whole numbers within bounds."""

    def read(raw: object) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError(f"{shown(raw)} is not a whole number")
        if not least <= raw <= most:
            raise ValueError(f"{raw} is out of range")
        return raw

    return Kind(f"a whole number from {least} to {most}", read)


def factor(least: float, most: float) -> Kind:
    """Numbers, whole or not, within bounds."""

    def read(raw: object) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            raise ValueError(f"{shown(raw)} is not a number")
        if not least <= raw <= most:  # also keeps out nan
            raise ValueError(f"{raw} is out of range")
        return raw

    return Kind(f"a number from {least} to {most}", read)


def a_duration(least: str, most: str = "36500d") -> Kind:
    """Durations within bounds, as microseconds."""
    low, high = duration(least), duration(most)

    def read(raw: object) -> int:
        if not low <= (value := duration(_string(raw))) <= high:
            raise ValueError(f"{shown(raw)} is out of range")
        return value

    return Kind(f'a duration with its unit (us, ms, s, m, h, d) from "{least}" to "{most}"', read, show_duration)


def a_size(least: str, most: str) -> Kind:
    """Sizes within bounds, as bytes."""
    low, high = size(least), size(most)

    def read(raw: object) -> int:
        if not low <= (value := size(_string(raw))) <= high:
            raise ValueError(f"{shown(raw)} is out of range")
        return value

    return Kind(f'a size with its unit (B, KiB, MiB, GiB, TiB) from "{least}" to "{most}"', read, show_size)


def listens() -> Kind:
    """Places to listen at, as text."""

    def one(raw: object) -> str:
        value = _string(raw)
        if value.startswith("systemd:"):
            if not _SOCKET_NAME.fullmatch(value.removeprefix("systemd:")):
                raise ValueError(f"{shown(raw)} names no socket")
        else:
            endpoint(value)
        return value

    def read(raw: object) -> tuple[str, ...]:
        return _distinct([one(item) for item in _items(raw)])

    return Kind('a list of "ADDRESS:PORT", "[IPV6]:PORT", "HOST:PORT", ":PORT" or "systemd:NAME"', read, list)


def an_endpoint() -> Kind:
    """One address and port as text, or "" for none."""

    def read(raw: object) -> str:
        if value := _string(raw):
            endpoint(value)
        return value

    return Kind('"ADDRESS:PORT", "[IPV6]:PORT", "HOST:PORT", or "" for none', read)


def networks() -> Kind:
    """Addresses and networks, as ipaddress networks."""

    def one(raw: object) -> Network:
        value = _string(raw)
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{shown(raw)} is neither an address nor a network") from None
        if "/" in value and ip_address(value.partition("/")[0]) != network.network_address:
            raise ValueError(f'{shown(raw)} has bits set after its prefix: did you mean "{network}"?')
        return unmapped(network)

    def read(raw: object) -> tuple[Network, ...]:
        return tuple(dict.fromkeys(one(item) for item in _items(raw)))

    return Kind(
        'a list of addresses and networks, as "192.0.2.0/24" or "2001:db8::1"',
        read,
        lambda value: [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in value],
    )


def a_url(*schemes: str) -> Kind:
    """URLs with one of the schemes, as text."""

    def read(raw: object) -> str:
        value = _string(raw)
        urls.check(value, schemes)
        return value

    return Kind("a URL that begins with " + ", ".join(f"{scheme}://" for scheme in schemes), read)


def a_path(*, empty: bool = False) -> Kind:
    """Absolute paths, as text."""

    def read(raw: object) -> str:
        value = _string(raw)
        if not (value.startswith("/") or (empty and not value)):
            raise ValueError(f"{shown(raw)} is not an absolute path")
        return value

    return Kind('an absolute path, or "" for none' if empty else "an absolute path", read)


def an_output() -> Kind:
    """Where to write: an absolute path, or ``-``."""

    def read(raw: object) -> str:
        if (value := _string(raw)) != "-" and not value.startswith("/"):
            raise ValueError(f"{shown(raw)} is not an absolute path")
        return value

    return Kind('an absolute path, or "-" for standard output', read)


def paths() -> Kind:
    """Absolute paths, as text."""
    path = a_path()
    return Kind("a list of absolute paths", lambda raw: _distinct([path.read(item) for item in _items(raw)]), list)


def names(allowed: str, *known: str, least: int = 0, pattern: str = _NAME.pattern) -> Kind:
    """Names in a list: some of ``known``, or whatever the pattern matches where nothing is known."""

    def one(raw: object) -> str:
        value = _string(raw)
        if value not in known if known else not re.fullmatch(pattern, value):
            raise ValueError(f"{shown(raw)} is not allowed")
        return value

    def read(raw: object) -> tuple[str, ...]:
        value = _distinct([one(item) for item in _items(raw)])
        if len(value) < least:
            raise ValueError("it is empty")
        # Where all names are known, their order means nothing: keep one.
        return tuple(name for name in known if name in value) if known else value

    return Kind(allowed, read, list)


def ports() -> Kind:
    """Service names and ports, in a table."""

    def read(raw: object) -> Mapping[str, int]:
        if not isinstance(raw, dict):
            raise ValueError(f"{shown(raw)} is not a table")
        port = whole(0, MAX_PORT)
        for name, number in raw.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"{shown(name)} is not a service's name")
            try:
                port.read(number)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return dict(raw)

    return Kind(f"a table of service names and ports from 0 (all ports) to {MAX_PORT}, as {{ssh = 2222}}", read, dict)


def a_zone() -> Kind:
    """Names of time zones, as text."""

    def read(raw: object) -> str:
        zone(value := _string(raw))
        return value

    return Kind('"local", "UTC" or an IANA name such as "Europe/Berlin"', read)


def _distinct(items: list[str]) -> tuple[str, ...]:
    if len(set(items)) < len(items):
        twice = next(item for item in items if items.count(item) > 1)
        raise ValueError(f'"{twice}" stands in it twice')
    return tuple(items)
