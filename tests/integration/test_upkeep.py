"""What a daemon does from time to time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.daemon import Daemon
    from tests.servers.postgres import PostgreSQL


def test_partitions_are_made_and_dropped_soon_after_the_start(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(f'[archive]\nurl = "{url}"\nretention = "5d"\n')
    daemon.start()
    today = datetime.now(UTC)

    def days() -> set[int]:
        listed = postgres.query("SELECT relname FROM pg_class WHERE relname ~ '^logs_[0-9]{8}$'", url)
        return {(datetime.strptime(f"{name}+0000", "logs_%Y%m%d%z").date() - today.date()).days for (name,) in listed}

    wait_until(lambda: 3 in days(), what="partitions ahead")
    daemon.stop()
    for old in (4, 6, 9):
        postgres.query(f"SELECT logguardd_make_partition('{today - timedelta(days=old):%Y-%m-%d}')", url)
    daemon.start()
    wait_until(lambda: min(days()) == -4, what="old partitions gone")
    assert {0, 1, 2, 3} <= days()
