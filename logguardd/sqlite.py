"""A SQLite file used from asyncio: one connection in a thread of its own, and its errors in words for an operator.

The journal and the embedded archive stand on it. SQLite: https://www.sqlite.org/wal.html, /rescode.html, /pragma.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from logguardd.errors import ConfigError, LogguarddError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

#: Primary result codes (the low byte of an extended one) after which a connection is opened afresh: what it believes
#: about the file may be wrong.
_REOPEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNUSABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
#: Errors of a full or failing disk.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

#: Bytes free on a disk below which an I/O error is put down to that.
_LITTLE = 128 << 10


class Connection:
    """One connection, used in one thread that belongs to it; it is opened at the first use and after an I/O error.

    ``what`` begins every message ("journal", "archive"); what ``pragmas`` gives is run on every new connection, in order.
    """

    def __init__(self, path: Path, what: str, pragmas: Callable[[], Sequence[str]]) -> None:
        self.path = path
        self._what = what
        self._pragmas = pragmas
        self._thread: _Thread | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T], *, opening: bool = False) -> T:
        """Run ``work(connection)`` in the thread; what it left open of a transaction is rolled back when it raises.

        Raises errors.UnavailableError for what SQLite refuses; with ``opening``, errors.ConfigError where only an
        operator can help (a damaged file, no permission).
        """
        if self._thread is None:
            self._thread = _Thread(self._connect, self._what)
        try:
            return await self._thread.run(work)
        except sqlite3.Error as error:
            raise self._translate(error, opening=opening) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            for pragma in self._pragmas():
                connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _translate(self, error: sqlite3.Error, *, opening: bool) -> LogguarddError:
        code = primary_code(error)
        where = f"{self._what}: {self.path}"
        if code in _DAMAGED:
            aside = f"{self.path}.damaged"
            message = (
                f"{where}: the file is damaged or no SQLite database ({error}); stop logguardd, move it aside "
                f"(for f in '' -wal; do mv {self.path}$f {aside}$f; done) and start again with a new one"
            )
            return ConfigError(message) if opening else UnavailableError(message)
        if code in _UNUSABLE and opening:
            return ConfigError(f"{where}: {error}; the file and its folder must be writable by the daemon's user")
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._disk_is_full()):
            return UnavailableError(f"{where}: no space left ({error})")
        return UnavailableError(f"{where}: {error}")

    def _disk_is_full(self) -> bool:
        """Whether the disk has no room for SQLite's shared memory and a page, which it calls an I/O error."""
        with contextlib.suppress(OSError):
            disk = os.statvfs(self.path.parent)
            return disk.f_bavail * disk.f_frsize < _LITTLE
        return False

    async def close(self) -> None:
        """Close the connection and end its thread, after the work that it has; both come back when it is used again."""
        # Work that comes while it closes gets a new thread with a connection of its own.
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.close()


class _Thread:
    """A thread and the connection that only it uses, as sqlite3 demands."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect = connect
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"logguardd-{name}")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except BaseException as error:
            self._recover(primary_code(error) if isinstance(error, sqlite3.Error) else None)
            raise

    def _recover(self, code: int | None) -> None:
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if code in _REOPEN:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    async def close(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        finally:
            self._executor.shutdown(wait=False)


def primary_code(error: sqlite3.Error) -> int | None:
    """Return the primary result code of an error of SQLite's, None for one that Python's module raised itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block as one write transaction; an error rolls it back and goes on."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself on some errors
            connection.execute("ROLLBACK")
        raise


def create(path: Path, what: str, mode: int = 0o640) -> None:
    """Make the file where it is missing, not readable by others, and check that it can be used.

    A file that is there is not opened: closing it again would give up the POSIX locks of SQLite's connections in this
    process. Raises errors.ConfigError, or errors.UnavailableError on a full or failing disk.
    """
    try:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        except FileExistsError:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ConfigError(f"{what}: {path}: not a regular file") from None
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
    except OSError as error:
        message = f"{what}: {path}: {error.strerror}"
        if error.errno in NO_ROOM:
            raise UnavailableError(message) from error
        raise ConfigError(f"{message}; the file and its folder must be writable by the daemon's user") from error


def recognise(connection: sqlite3.Connection, application_id: int, what: str, path: Path) -> None:
    """Raise errors.ConfigError unless the file is what its application_id says; changes nothing."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != application_id:
        raise ConfigError(f"{what}: {path}: not a logguardd {what}")


def readable(path: Path, what: str) -> None:
    """Raise errors.ConfigError unless the file is there and may be read, as SQLite would make it where it is missing.

    Not for a process that has the file open: see ``create``.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        hint = "; it is the daemon's (try sudo)" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{what}: {path}: {error.strerror}{hint}") from error


def claim(connection: sqlite3.Connection, application_id: int, what: str, path: Path) -> bool:
    """Return whether the file is new; raise errors.ConfigError if it holds another program's tables.

    Switches to WAL, which the file remembers; errors.ConfigError where its file system cannot do that.
    """
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and found != application_id:
        raise ConfigError(f"{what}: {path}: an SQLite database, but not a logguardd {what}; name another file")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":  # to switch, no other connection may be using it
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigError(f"{what}: {path}: this file system cannot hold a WAL (journal mode {mode}); use a local disk")
    connection.execute(f"PRAGMA application_id = {application_id}")
    return not tables


def space(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the bytes of the main file that are in use, and of the pages that are free to be used again."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return (pages - free) * size, free * size


def give_back(connection: sqlite3.Connection, step: int, spare: int) -> int:
    """Give free pages back to the file system, at most ``step`` bytes, keeping a quarter of the file or ``spare`` bytes.

    The kept ones are used again without growing the file. Needs auto_vacuum = INCREMENTAL. Return the bytes given back.
    """
    size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    used, free = space(connection)
    surplus = min(free - max((used + free) // 4, spare), step) // size
    if surplus <= 0:
        return 0
    connection.execute(f"PRAGMA incremental_vacuum({surplus})").fetchall()
    return surplus * size
