"""Messages a second from TCP into PostgreSQL: logguardd, rsyslog's ompgsql, and asyncpg's bare COPY of the same rows."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import asyncpg

from tests.benchmarks.measure import Bench, Figure, peak_memory, until
from tests.servers.daemon import CHECKOUT, Daemon
from tests.servers.process import free_port
from tests.servers.rsyslog import Rsyslogd

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The columns that are copied again bare; id is left to its sequence, as logguardd does.
COLUMNS = (
    "timestamp", "source_ip", "source_port", "destination_port", "protocol", "action", "message", "client_id", "log_level",
    "service_name", "raw_log", "created_at", "facility", "procid", "msgid", "structured_data", "origin", "rule",
    "parse_error",
)  # fmt: skip

OMPGSQL = """
module(load="imtcp")
module(load="{ompgsql}")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="insert" type="list" option.stdsql="on") {
  constant(value="INSERT INTO logs (timestamp, message, client_id, log_level, service_name, raw_log, created_at, facility, procid, origin) VALUES ('")
  property(name="timereported" dateFormat="rfc3339") constant(value="', '")
  property(name="msg") constant(value="', '")
  property(name="hostname") constant(value="', '")
  property(name="syslogseverity-text") constant(value="', '")
  property(name="programname") constant(value="', '")
  property(name="rawmsg") constant(value="', '")
  property(name="timegenerated" dateFormat="rfc3339") constant(value="', ")
  property(name="syslogfacility") constant(value=", '")
  property(name="procid") constant(value="', '")
  property(name="fromhost-ip") constant(value="')")
}
action(type="ompgsql" conninfo="postgresql://postgres@127.0.0.1:{pg}/{database}" template="insert"
       queue.type="linkedList" queue.size="2000000")
"""


def lines(scenario: str, count: int) -> bytes:
    """Return ``count`` messages of a scenario, framed with LF."""
    made = subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts/generate_logs.py"), "--scenario", scenario, "--rate", "0",
         "--count", str(count), "--target", "-"],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    return made.stdout


def send(port: int, messages: bytes) -> float:
    """Send over one TCP connection as fast as they are taken; return the time.monotonic() of the first byte."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        started = time.monotonic()
        stream.sendall(messages)
    return started


def rows_in(bench: Bench, url: str) -> int:
    """Count the stored messages."""
    return int(bench.postgres.query("SELECT count(*) FROM logs", url)[0][0])


def through_daemon(bench: Bench, scenario: str = "normal") -> tuple[list[Figure], float, str]:
    """Return figures, messages a second, and the URL of the filled database."""
    url = bench.postgres.fresh_database()
    daemon = Daemon(
        bench.folder / f"daemon-{scenario}",
        f'[archive]\nurl = "{url}"\n[limiter]\nurl = "{bench.redis.url}"\n[firewall]\nbackend = "print"\noutput = "/dev/null"\n',
    )
    messages = lines(scenario, bench.messages)
    daemon.start()
    try:
        started = send(daemon.ports["tcp"], messages)
        # Counting rows costs PostgreSQL time of its own, so the daemon is asked for its offset first.
        until(lambda: daemon.metric("logguardd_archive_rows_total") >= bench.messages, timeout=300, what="archive")
        ended = until(lambda: rows_in(bench, url) >= bench.messages, timeout=60, what="rows")
        rate = bench.messages / (ended - started)
        stored = rows_in(bench, url)
        memory = peak_memory(daemon.pid)
    finally:
        daemon.stop()
    if stored != bench.messages:
        raise RuntimeError(f"{stored} rows stored of {bench.messages} sent")
    return [
        Figure(f"TCP to PostgreSQL, {scenario}", rate, "messages/s"),
        Figure(f"peak memory, {scenario}", memory, "MiB"),
    ], rate, url  # fmt: skip


def bare_copy(bench: Bench, url: str) -> float:
    """Copy the rows of a filled database into an empty table like it; return rows a second."""

    async def run() -> float:
        connection = await asyncpg.connect(url)
        try:
            rows = [tuple(row) for row in await connection.fetch(f"SELECT {', '.join(COLUMNS)} FROM logs")]
            await connection.execute("TRUNCATE logs")
            started = time.monotonic()
            for part in _parts(rows, 10_000):
                async with connection.transaction():
                    await connection.copy_records_to_table("logs", records=part, columns=COLUMNS)
            return len(rows) / (time.monotonic() - started)
        finally:
            await connection.close()

    return asyncio.run(run())


def _parts(rows: list[tuple[object, ...]], size: int) -> Iterator[list[tuple[object, ...]]]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]


def through_ompgsql(bench: Bench, url: str) -> float:
    """Send to rsyslog with ompgsql and its default batching; return messages a second. The table is emptied first."""
    bench.postgres.query("TRUNCATE logs", url)
    count = bench.messages // 5  # it is slow: a fifth is enough for a rate
    messages = lines("normal", count)
    port = free_port()
    config = OMPGSQL.replace("{port}", str(port)).replace("{pg}", str(bench.postgres.port))
    own = CHECKOUT / ".venv/lib/rsyslog/ompgsql.so"  # where `make setup` puts it
    config = config.replace("{ompgsql}", str(own) if own.exists() else "ompgsql")
    rsyslogd = Rsyslogd(bench.folder / "ompgsql", config.replace("{database}", url.rpartition("/")[2]))
    rsyslogd.start()
    try:
        started = send(port, messages)
        ended = until(lambda: rows_in(bench, url) >= count, timeout=300, what="ompgsql")
    finally:
        rsyslogd.stop()
    return count / (ended - started)
