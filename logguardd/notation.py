"""How durations, sizes, endpoints and time zones are written, in the configuration and on command lines."""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from ipaddress import IPv6Address, ip_address
from os import environ
from pathlib import Path
from zoneinfo import ZoneInfo

from logguardd import urls
from logguardd.records import SECOND

#: Microseconds in each unit of a duration, longest first.
UNITS = {"d": 86400 * SECOND, "h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": 1000, "us": 1}

#: The longest a ban can last, but for ever.
LONGEST_BAN = 36_500 * UNITS["d"]

#: Bytes in each unit of a size. Decimal units are accepted too, since df and disks speak them.
SIZES = {
    "TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10,
    "TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 1000, "KB": 1000, "B": 1,
}  # fmt: skip

_DURATION = re.compile(r"(?:[0-9]{1,19}(?:d|h|ms|m|s|us))+")
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMERIC = re.compile(r"[0-9.]+")
_SIZE = re.compile(r"([0-9]{1,19}) ?([KMGT]iB|[kKMGT]B|B)")

#: The highest port number.
MAX_PORT = 65535


def printable(text: str) -> str:
    """Return ``text`` with what would disturb a terminal or a line-based log escaped: control, format, separators."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def shown(raw: object) -> str:
    """Show a wrong value briefly, without passwords and control characters."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        return f'"{printable(urls.redact(raw)[:60])}"'
    if isinstance(raw, list | dict):
        return "a list" if isinstance(raw, list) else "a table"
    return str(raw)[:60]


def duration(text: str) -> int:
    """Return the microseconds of ``5m``, ``90s``, ``1h30m``, ``10ms``; raise ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a duration")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([a-z]+)", text))


def show_duration(microseconds: int) -> str:
    """Return the duration in the longest unit that shows it exactly, for example ``5m`` or ``90s``."""
    if microseconds == 0:
        return "0s"
    return next(f"{microseconds // size}{unit}" for unit, size in UNITS.items() if microseconds % size == 0)


def size(text: str) -> int:
    """Return the bytes of ``10GiB``, ``64KiB``, ``512B``; raise ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{shown(text)} is not a size")
    return int(match[1]) * SIZES[match[2]]


def show_size(number: int) -> str:
    """Return the size in the longest binary unit that shows it exactly."""
    return next(f"{number // SIZES[u]}{u}" for u in ("TiB", "GiB", "MiB", "KiB", "B") if number % SIZES[u] == 0)


def endpoint(text: str) -> tuple[str, int]:
    """Return host and port of ``192.0.2.1:514``, ``[::]:514``, ``host.example:514`` or ``:514`` (host ``::``).

    Port 0 stands for any free one. Raises ValueError for anything else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or len(port) > len(str(MAX_PORT)):
        raise ValueError(f"{shown(text)} does not end in :PORT")
    if int(port) > MAX_PORT:
        raise ValueError(f"port {port} is above {MAX_PORT}")
    if bracketed := _BRACKETED.fullmatch(host):
        host = bracketed[1]
    try:
        six = isinstance(ip_address(host), IPv6Address)
    except ValueError:
        if bracketed or (host and not _HOST.fullmatch(host)) or _NUMERIC.fullmatch(host):
            raise ValueError(f"{shown(host)} is neither an address nor the name of a host") from None
        return host or "::", int(port)
    if six != bool(bracketed):
        raise ValueError(f"{shown(text)}: IPv6 addresses, and only they, stand in brackets")
    return host, int(port)


def clash(one: str, other: str, *, together: bool = False) -> bool:
    """Whether two places to listen at cannot both be opened: they are the same, or the one is among the other's.

    ``together`` says that one key holds both: then [::] leaves IPv4 to 0.0.0.0.
    """
    if one.startswith("systemd:") or other.startswith("systemd:") or not (one and other):
        return one == other != ""
    (host, port), (former, former_port) = endpoint(one), endpoint(other)
    hosts = {host, former}
    if port != former_port or port == 0 or (together and hosts == {"::", "0.0.0.0"}):  # noqa: S104 - places, not a socket
        return False
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and not any(":" in each for each in hosts))  # noqa: S104


def zone(name: str) -> tzinfo:
    """Return the time zone of that IANA name, or the machine's for ``local`` (TZ, /etc/localtime, else UTC).

    Raises ValueError for a zone that this machine's tzdata does not know.
    """
    if name == "local":
        name = environ.get("TZ", "").removeprefix(":")
        if not name:
            try:
                with Path("/etc/localtime").open("rb") as file:
                    return ZoneInfo.from_file(file)
            except (OSError, ValueError):
                return UTC
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"this machine knows no time zone {shown(name)}") from None
