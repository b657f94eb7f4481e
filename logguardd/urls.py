"""URLs of servers and files: what may stand in them, what is in them, and how to show one without its password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

#: Ports of the schemes, where a URL names none.
DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}

_POSTGRESQL = ("postgresql", "postgres")
_REDIS = ("redis", "rediss")
_MAX_PORT = 65535
# The PostgreSQL manual, section 34.1.2.
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# To the last @: who forgets that /, ? and # must be escaped in a password does not want it in a log either.
_USERINFO = re.compile(r"(?<=://)(?!\[)([^/?#\s:@]*):(?![0-9]{1,5}[/?#,])\S*@")
_PARAMETER = re.compile(r"([?&](?:password|sslpassword)=)[^&#\s]*", re.IGNORECASE)


def redact(text: str) -> str:
    """Return ``text`` with the password of every URL in it shown as ``***`` (user:password@ and ?password=)."""
    if "://" not in text:
        return text
    return _PARAMETER.sub(r"\1***", _USERINFO.sub(r"\1:***@", text))


def check(url: str, schemes: tuple[str, ...]) -> None:
    """Raise ValueError, saying what is wrong, unless ``url`` has one of ``schemes`` and what that scheme needs."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f'"{redact(url)}" is not a URL')
    if scheme not in schemes:
        raise ValueError(f'scheme "{scheme}" is not known here')
    if any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("there is a space or a control character in it")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f'"{redact(url)}" is not a URL: {error}') from None
    if _cut(parts):
        raise ValueError("in a password, / must be written as %2F, ? as %3F, # as %23, @ as %40")
    if scheme == "memory" and rest:
        raise ValueError('nothing may follow "memory://"')
    if scheme in ("sqlite", "unix"):
        _check_file(url, parts)
    elif scheme in _POSTGRESQL:
        _check_postgresql(url, parts)
    elif scheme in _REDIS:
        _check_redis(parts)


def _cut(parts: SplitResult) -> bool:
    """Whether the host seems to be the beginning of user and password, cut off at a character that should be escaped."""
    _, colon, port = parts.netloc.rpartition(":")
    if not colon or "@" in parts.netloc or parts.netloc.startswith("["):
        return False
    return "@" in parts.path + parts.fragment or ("@" in parts.query and not port.isdigit())


def files(url: str) -> dict[str, str]:
    """Return the certificate files that a PostgreSQL URL names, by parameter."""
    parts = urlsplit(url)
    given = parse_qs(parts.query) if parts.scheme in _POSTGRESQL else {}
    return {name: given[name][-1] for name in _SSL_FILES if name in given}


def _check_file(url: str, parts: SplitResult) -> None:
    # redis-py takes unix://user:password@/path.
    host = parts.netloc if parts.scheme == "sqlite" else parts.netloc.rpartition("@")[2]
    if host or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise ValueError(
            f'"{redact(url)}" needs the absolute path of a file: {parts.scheme}:///PATH, with three slashes'
        )


def _check_postgresql(url: str, parts: SplitResult) -> None:
    hosts(url)
    for mode in parse_qs(parts.query, keep_blank_values=True).get("sslmode", ()):
        if mode not in _SSL_MODES:
            raise ValueError(f'its sslmode "{mode}" is not {", ".join(_SSL_MODES[:-1])} or {_SSL_MODES[-1]}')


def _check_redis(parts: SplitResult) -> None:
    if not parts.hostname:
        raise ValueError("it names no host")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("its port is not a number from 1 to 65535") from None
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError(f'database "{parts.path.strip("/")}" is not a number')


def sqlite_url(path: str) -> str:
    """Return the ``sqlite://`` URL of an absolute path."""
    return f"sqlite://{quote(path)}"


def sqlite_path(url: str) -> str:
    """Return the file that a ``sqlite:///path`` URL names."""
    return "/" + unquote(urlsplit(url).path).lstrip("/")


def hosts(url: str) -> tuple[str, ...]:
    """Return the hosts a PostgreSQL or Redis URL names, without ports; none for Unix sockets, files and memory.

    A PostgreSQL URL may list several (``postgresql://a:5432,b:5432/db``) or name them in ``?host=`` (the PostgreSQL
    manual, section 34.1.1.2). Raises ValueError for a port that is none.
    """
    parts = urlsplit(url)
    if parts.scheme in _REDIS:
        return (parts.hostname,) if parts.hostname else ()
    if parts.scheme not in _POSTGRESQL:
        return ()
    listed = parts.netloc.rpartition("@")[2].split(",")
    listed += [item for value in parse_qs(parts.query).get("host", ()) for item in value.split(",")]
    found = []
    for item in listed:
        host = _host(unquote(item))
        if host and not host.startswith(("/", "@")):
            found.append(host)
    return tuple(dict.fromkeys(found))


def _host(item: str) -> str:
    """Return the host of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address; ValueError for a bad port."""
    if item.startswith("/"):
        return item
    host, colon, port = item.rpartition(":")
    if item.startswith("["):
        host, _, port = item[1:].partition("]")
        colon, port = port[:1], port[1:]
    elif not colon or ":" in host:
        return item
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise ValueError(f'port "{port}" is not a number from 1 to {_MAX_PORT}')
    return host
