"""The journal read by a program beside the daemon: what was received in some time, in order, without a consumer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from logguardd.journal.store import APPLICATION, select
from logguardd.sqlite import Connection, readable, recognise

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator
    from pathlib import Path

    from logguardd.records import Batch

_BYTES = 1 << 20


async def batches(path: Path, first: int, last: int) -> AsyncIterator[Batch]:
    """Yield the batches received from ``first`` on and before ``last`` (microseconds), in the journal's order.

    The daemon may go on writing, and dropping, meanwhile. Raises errors.ConfigError for a file that is not there or no
    journal, errors.UnavailableError when it cannot be read.
    """
    readable(path, "journal")
    connection = Connection(path, "journal", lambda: ("query_only = ON",))
    try:
        offset, end = await connection.run(partial(_span, path=path, first=first, last=last), opening=True)
        while offset < end:
            found = await connection.run(partial(select, offset=offset, max_bytes=_BYTES))
            for batch in found:
                # The clock may have been set back in between.
                if first <= batch.received_at < last:
                    yield batch
            if not found:
                break
            offset = found[-1].offset + found[-1].count
    finally:
        await connection.close()


def _span(connection: sqlite3.Connection, path: Path, first: int, last: int) -> tuple[int, int]:
    """Return the position of the first message received in that time and the one after the last; equal for none."""
    recognise(connection, APPLICATION, "journal", path)
    found = connection.execute(
        'SELECT min("offset"), max("offset" + count) FROM batches WHERE received_at >= ? AND received_at < ?',
        (first, last),
    ).fetchone()
    return (0, 0) if found[0] is None else (found[0], found[1])
