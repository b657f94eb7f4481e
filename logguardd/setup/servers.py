"""Redis, tried as the daemon will use it; passwords from files, put into URLs."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from logguardd.errors import ConfigError
from logguardd.limiter.connection import Server


async def check_redis(url: str) -> None:
    """Raise UnavailableError or ConfigError unless Redis answers at ``url`` and runs scripts, as the limiter needs."""
    server = Server(url)
    try:
        await server.reach(server.execute("EVAL", "return redis.call('TIME')", "0"))
    finally:
        await server.drop()


def with_password(url: str, password: str) -> str:
    """Return a URL with this password; without one the URL as it is."""
    if not password:
        return url
    parts = urlsplit(url)
    login, _, server = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{server}"))


def password_from(file: str | None) -> str:
    """Return the first line of a file, or of standard input for ``-``; "" without a file. Raises ConfigError."""
    if file is None:
        return ""
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    password = text.partition("\n")[0].rstrip("\r")
    if not password or not password.isprintable():
        raise ConfigError(f"{file}: its first line is no password; allowed: printable characters")
    return password
