"""The daily partitions of PostgreSQL's ``logs``, made and dropped by functions that run with the owner's rights."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

import asyncpg

from logguardd.records import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from logguardd.archive.session import Session

_log = logging.getLogger(__name__)

_DAY = 86_400 * SECOND
_EPOCH = date(1970, 1, 1).toordinal()

#: What is no reason to stop storing: no right to do it, a long query holding its lock, a function an owner took away.
_LATER = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.LockNotAvailableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.DeadlockDetectedError,
)


class Partitions:
    """Makes and drops partitions. What cannot be done now is logged, once a reason, and rows go to ``logs_default``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: set[int] = set()
        self._complaints: set[str] = set()

    def forget(self) -> None:
        """Look again which partitions there are (a new connection; or some may have been dropped)."""
        self._known.clear()

    async def make(self, times: Iterable[int]) -> None:
        """See that there are partitions for these times (microseconds since the epoch); raises UnavailableError."""
        missing = {time // _DAY for time in times} - self._known
        if not missing:
            return
        async with self._session.use() as connection:
            for day in sorted(missing):
                # One that could not be made is not tried before forget(), and no other now: each may wait for a lock.
                if _date(day) is not None and await self._call(connection, "logguardd_make_partition", day) is None:
                    break
        self._known |= missing

    async def drop(self, before: int) -> int:
        """Drop the partitions of days before the day of ``before``; return how many."""
        dropped = 0
        day = before // _DAY
        if _date(day) is None:
            return 0
        async with self._session.use() as connection:
            # One a transaction, so that the lock on logs is held for a moment only.
            while await self._call(connection, "logguardd_drop_partition", day):
                dropped += 1
        if dropped:
            self.forget()
        return dropped

    async def _call(self, connection: Any, function: str, day: int) -> object:
        try:
            return await connection.fetchval(f"SELECT {function}($1)", _date(day))
        except _LATER as error:
            complaint = f"{function}: {str(error).partition(chr(10))[0]}"
            if complaint not in self._complaints:
                self._complaints.add(complaint)
                _log.warning("archive: %s", complaint)
            return None


def _date(day: int) -> date | None:
    try:
        return date.fromordinal(_EPOCH + day)
    except (ValueError, OverflowError):
        return None
