"""PostgreSQL for the archive: an owner role, a database with the schema, and a role that can do no more than archive.

The owner (ROLE_owner, who cannot log in) owns database and tables; the daemon logs in as ROLE, which has the rights
that the migrations name in their comments. Everything is left as it is where it is right already.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import pwd
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from logguardd import urls
from logguardd.archive.migrations import load
from logguardd.archive.postgres import PostgresArchive
from logguardd.errors import ConfigError, LogguarddError, UnavailableError
from logguardd.setup.identity import become, ourselves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

#: What --postgres-admin stands for with the word "local": this machine's server, by its socket, as user postgres.
LOCAL = "postgresql://postgres@/postgres?host=/run/postgresql"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,55}")
# As the comments of the migrations write it.
_GRANT = re.compile(r"^--\s+(GRANT .*) TO logguardd_app;$", re.MULTILINE)
_CONNECT = 10.0
_ITERATIONS = 4096
_RETENTION = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """The names of the database and of the role that the daemon gets."""

    database: str = "logs"
    role: str = "logguardd"

    def __post_init__(self) -> None:
        """Raise ConfigError for names that would need quoting everywhere."""
        for option, name in (("--database", self.database), ("--role", self.role)):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{option}: {name[:80]!r}: not a name; allowed: letters, digits, _ and -, up to 56")


class NeedsPasswordError(ConfigError):
    """The role exists, and nobody knows its password here."""


def grants() -> list[str]:
    """Return the GRANTs that the migrations' comments name for the daemon's role, without their TO."""
    return [grant for migration in load("postgres") for grant in _GRANT.findall(migration.sql)]


def runtime_url(admin: str, wanted: Wanted, password: str) -> str:
    """Return the URL that the daemon uses: the admin URL's server and options, with its own role and database."""
    parts = urlsplit(admin)
    server = parts.netloc.rpartition("@")[2]
    login = quote(wanted.role, safe="") + (f":{quote(password, safe='')}" if password else "")
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query)
        if name not in ("user", "password", "dbname", "database")
    ]
    query = urlencode(kept, safe="/:,")
    return urlunsplit(SplitResult(parts.scheme, f"{login}@{server}", f"/{quote(wanted.database, safe='')}", query, ""))


async def prepare(admin: str, wanted: Wanted, *, current: str = "", password: str = "", reset: bool = False) -> str:
    """Make what is missing, migrate, grant; return the daemon's URL, which has been tried.

    ``current`` is the archive's URL of the configuration, ``password`` the role's. A new role gets ``password`` or a
    random one, or none where the server knows the daemon's user by the socket; so does, with ``reset``, one that exists.
    Raises NeedsPasswordError when the role exists and its password is not known; ConfigError or UnavailableError for
    what else is wrong.
    """
    mine = current if same(current, runtime_url(admin, wanted, "")) else ""
    granted = grants()  # read as ourselves, who may
    with _as_admin(admin):
        async with _connected(admin) as connection:
            superuser = await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            new = reset or await _role(connection, wanted.role, superuser=superuser, in_use=bool(mine))
            owner = await _database(connection, wanted, superuser=superuser)
        await _schema(admin, wanted, owner, granted)
        if new and not password and not await _known_by_socket(admin, wanted):
            password = secrets.token_urlsafe(24)
        if new and password:
            # Last, so that who tries again after an error finds a role without a password, and gives it one.
            async with _connected(admin) as connection:
                await connection.execute(f"ALTER ROLE {_quoted(wanted.role)} PASSWORD '{_verifier(password)}'")
    url = mine if mine and not password else runtime_url(admin, wanted, password)
    try:
        await check(url, wanted.role)
    except LogguarddError as error:
        if new:
            raise
        raise NeedsPasswordError(
            f'PostgreSQL has the role "{wanted.role}" already, and it cannot log in from here: {error}; give its password'
            " with --postgres-password-file, or a new one to it with --postgres-reset-password"
        ) from error
    return url


async def _role(connection: Any, role: str, *, superuser: bool, in_use: bool) -> bool:
    """Make the role where it is missing; return whether it needs a password: it is new, or was made in vain before."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"CREATE ROLE {_quoted(role)} LOGIN")
        return True
    if in_use or not superuser:
        return False
    return bool(await connection.fetchval("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = $1", role))


async def check(url: str, user: str = "") -> None:
    """Raise UnavailableError or ConfigError unless the daemon, who runs as system user ``user``, can archive at ``url``."""
    with become(user) if user and _by_socket(url) else contextlib.nullcontext():
        archive = PostgresArchive(url, _RETENTION)
        try:
            await archive.open()
        finally:
            await archive.close()


async def _database(connection: Any, wanted: Wanted, *, superuser: bool) -> str:
    """Make the database where it is missing; return its owner, whose rights the administrator then has."""
    owner = await connection.fetchval(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", wanted.database
    )
    made = owner is None
    if made:
        owner = f"{wanted.role}_owner"
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", owner):
            await connection.execute(f"CREATE ROLE {_quoted(owner)} NOLOGIN")
    if not superuser:
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):  # then it is a member already, or cannot be one
            await connection.execute(f"GRANT {_quoted(owner)} TO current_user")
    if made:
        create = f"CREATE DATABASE {_quoted(wanted.database)} OWNER {_quoted(owner)} TEMPLATE template0 ENCODING 'UTF8'"
        try:
            await connection.execute(create)
        except asyncpg.InvalidParameterValueError:
            # The server's locale has another encoding; this one goes with every encoding.
            await connection.execute(f"{create} LC_COLLATE 'C' LC_CTYPE 'C'")
        await connection.execute(f"REVOKE ALL ON DATABASE {_quoted(wanted.database)} FROM PUBLIC")
    await connection.execute(f"GRANT CONNECT ON DATABASE {_quoted(wanted.database)} TO {_quoted(wanted.role)}")
    return str(owner)


async def _schema(admin: str, wanted: Wanted, owner: str, granted: Iterable[str]) -> None:
    """Migrate as the owner, and grant the daemon's role what it needs."""
    url = _database_url(admin, wanted.database)
    async with _connected(url) as connection:
        # Before PostgreSQL 15 everybody may create there, the owner of the database no more than others.
        for statement in (
            f"GRANT USAGE, CREATE ON SCHEMA public TO {_quoted(owner)}",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA public TO {_quoted(wanted.role)}",
        ):
            await connection.execute(statement)
    await check(_with_option(url, "role", owner))
    if owner == wanted.role:
        return
    async with _connected(_with_option(url, "role", owner)) as connection, connection.transaction():
        for grant in granted:
            await connection.execute(f"{grant} TO {_quoted(wanted.role)}")


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    where = f"PostgreSQL {urls.redact(url)}"
    try:
        connection = await asyncpg.connect(
            url, timeout=_CONNECT, server_settings={"application_name": "logguardctl setup"}
        )
    except TimeoutError:
        raise UnavailableError(f"{where}: no connection within {_CONNECT:.0f} s") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise UnavailableError(f"{where}: {_words(error)}") from error
    try:
        yield connection
    except asyncpg.PostgresError as error:
        raise ConfigError(f"{where}: {_words(error)}") from error
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)


def _database_url(admin: str, database: str) -> str:
    parts = urlsplit(admin)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("dbname", "database")]
    return urlunsplit(parts._replace(path=f"/{quote(database, safe='')}", query=urlencode(kept, safe="/:,")))


def _with_option(url: str, name: str, value: str) -> str:
    """Add a server setting to a URL: asyncpg passes on what it does not know itself."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{name}={quote(value, safe='')}"


def same(current: str, url: str) -> bool:
    """Whether two URLs mean the same role, server and database."""
    return bool(current) and urls.hosts(current) == urls.hosts(url) and _login(current) == _login(url)


def _login(url: str) -> tuple[str | None, str, str]:
    parts = urlsplit(url)
    return parts.username, parts.netloc.rpartition("@")[2], parts.path


def _by_socket(url: str) -> bool:
    return not urls.hosts(url)


async def _known_by_socket(admin: str, wanted: Wanted) -> bool:
    """Whether the server knows the daemon by its system user (pg_hba.conf's peer), as Debian's does by default."""
    try:
        pwd.getpwnam(wanted.role)
    except KeyError:
        return False
    if not _by_socket(admin):
        return False
    with ourselves():
        try:
            await check(runtime_url(admin, wanted, ""), wanted.role)
        except LogguarddError:
            return False
    return True


def _as_admin(admin: str) -> contextlib.AbstractContextManager[None]:
    """Be the system user that the URL names while connecting by a socket without a password."""
    parts = urlsplit(admin)
    if _by_socket(admin) and parts.password is None:
        return become(parts.username or "postgres")
    return contextlib.nullcontext()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _verifier(password: str) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803), so that the password itself never stands in the server's log.

    A password that is not ASCII, which SASLprep might change, is returned for the server to hash, quotes doubled.
    """
    if not password.isascii():
        return password.replace("'", "''")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return (str(error).strip() or type(error).__name__).splitlines()[0]
