"""Servers stopped and started, the daemon killed, all under load: nothing lost, nothing twice, bans go on."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.daemon import CHECKOUT, Daemon, send_tcp, send_udp
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import PostgreSQL
    from tests.servers.redis import Redis

POSTGRES = '[archive]\nurl = "{url}"\n'


def numbered(first: int, count: int) -> bytes:
    return b"".join(b"<13>Nov 20 10:00:00 web1 app[7]: number=%d\n" % n for n in range(first, first + count))


def failed_logins(address: str, count: int) -> bytes:
    line = "<86>Nov 20 10:00:00 web%d sshd[77]: Failed password for root from %s port 4022 ssh2\n"
    return "".join(line % (n, address) for n in range(count)).encode()


def banned(daemon: Daemon) -> set[str]:
    return {ban["network"].partition("/")[0] for ban in daemon.request("GET", "/bans")[1]["bans"]}


def stored_numbers(postgres: PostgreSQL, url: str) -> tuple[int, int, int]:
    """Return rows, distinct numbers and the highest number in the archive."""
    (row,) = postgres.query(
        "SELECT count(*), count(DISTINCT message), coalesce(max(substr(message, 8)::int), -1) FROM logs WHERE message LIKE 'number=%'",
        url,
    )
    return int(row[0]), int(row[1]), int(row[2])


def test_postgresql_stopped_under_load_leaves_every_message_stored_once(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(POSTGRES.format(url=url))
    daemon.start()
    rate, seconds = 5_000, 26
    sender = threading.Thread(target=_send_at, args=(daemon.ports["tcp"], rate, seconds))
    sender.start()
    wait_until(lambda: stored_numbers(postgres, url)[0] > 0, what="the first rows")
    postgres.stop("immediate")
    stopped = time.monotonic()
    send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.77", 6))
    wait_until(lambda: "198.18.0.77" in banned(daemon), what="a ban without PostgreSQL")
    wait_until(lambda: daemon.metric("logguardd_archive_failures_total") > 0, what="the failure in the metrics")
    wait_until(lambda: daemon.metric('logguardd_consumer_lag_messages{consumer="archive"}') > rate, what="lag")
    wait_until(lambda: time.monotonic() - stopped > 20, timeout=30, what="20 s without PostgreSQL")
    postgres.start()
    sender.join()
    total = rate * seconds
    wait_until(lambda: stored_numbers(postgres, url)[2] == total - 1, timeout=60, what="the last message stored")
    wait_until(lambda: stored_numbers(postgres, url)[0] >= total, timeout=20, what="all stored")
    assert stored_numbers(postgres, url) == (total, total, total - 1)
    assert postgres.query("SELECT host(ip_address) FROM blacklist WHERE is_active", url) == [["198.18.0.77"]]
    assert daemon.stop() == 0


def _send_at(port: int, rate: int, seconds: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as stream:
        started = time.monotonic()
        for tick in range(seconds * 10):
            stream.sendall(numbered(tick * rate // 10, rate // 10))
            time.sleep(max(0.0, started + (tick + 1) / 10 - time.monotonic()))


def _archive(daemon: Daemon) -> tuple[str, str]:
    status, text = daemon.http("/readyz")
    assert status == 200, "messages are received"
    archive = json.loads(text)["components"]["archive"]
    return archive["state"], archive["detail"]


def test_readyz_tells_of_a_postgresql_that_is_away_or_hangs_also_without_messages(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(POSTGRES.format(url=postgres.fresh_database()))
    daemon.start()
    assert _archive(daemon) == ("up", "")
    postgres.stop()
    wait_until(lambda: _archive(daemon)[0] == "degraded", what="a PostgreSQL that is away to be noticed")
    postgres.start()
    wait_until(lambda: _archive(daemon)[0] == "up", what="its return to be noticed")
    with postgres.frozen():
        send_tcp(daemon.ports["tcp"], numbered(0, 1))
        wait_until(lambda: re.fullmatch("no answer for [0-9]+ s", _archive(daemon)[1]), what="the silence to be told")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5


def test_sigterm_during_the_start_does_not_wait_for_a_postgresql_that_hangs(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(POSTGRES.format(url=url))
    daemon.start()
    with postgres.frozen():
        send_tcp(daemon.ports["tcp"], numbered(0, 1000))
        wait_until(
            lambda: daemon.request("GET", "/status")[1]["journal"]["head"] == 1001, what="the journal to have them"
        )
        assert daemon.stop() == 0
        daemon.start(ready=False)
        assert daemon.child is not None
        # It has its handlers, and goes on to the archive, when it has opened the journal.
        held = f"/proc/{daemon.pid}/fd"
        journal = f"{daemon.folder}/journal.db"
        wait_until(lambda: journal in map(_target, Path(held).iterdir()), what="the start to come to the archive")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5
    daemon.start()
    wait_until(lambda: stored_numbers(postgres, url) == (1000, 1000, 999), what="all stored")


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


def test_redis_stopped_and_started_under_load_never_stops_bans(
    redis_server: Redis, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(f'[limiter]\nurl = "{redis_server.url}"\n')
    daemon.start()
    load = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "scripts/generate_logs.py"), "--scenario", "attack", "--rate", "3000", "--duration", "30",
         "--target", f"tcp://127.0.0.1:{daemon.ports['tcp']}"], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.1", 6))
        wait_until(lambda: "198.18.0.1" in banned(daemon), what="a ban with Redis")
        assert redis_server.command("KEYS", "logguardd:hits:auth:198.18.0.1*")
        assert daemon.metric("logguardd_limiter_breaker_open") == 0

        redis_server.stop()
        send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.2", 6))
        wait_until(lambda: "198.18.0.2" in banned(daemon), what="a ban without Redis")
        wait_until(lambda: daemon.metric("logguardd_limiter_breaker_open") == 1, what="the open breaker in the metrics")
        assert daemon.request("GET", "/status")[1]["components"]["limiter"]["state"] == "degraded"

        redis_server.start()
        wait_until(lambda: daemon.metric("logguardd_limiter_breaker_open") == 0, timeout=20, what="Redis used again")
        before = daemon.metric('logguardd_limiter_calls_total{limiter="redis"}')
        send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.3", 6))
        wait_until(lambda: "198.18.0.3" in banned(daemon), what="a ban with Redis again")
        assert redis_server.command("KEYS", "logguardd:hits:auth:198.18.0.3*")
        assert daemon.metric('logguardd_limiter_calls_total{limiter="redis"}') > before
    finally:
        load.terminate()
        load.wait(10)
    assert daemon.stop() == 0


def test_kill_9_ten_times_under_load_stores_every_journaled_message_once(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(POSTGRES.format(url=url))
    randomness = random.Random(20261120)
    first = 0
    for _ in range(10):
        daemon.start()
        first = _send_until_killed(daemon, first, randomness.uniform(0.05, 1.0))
    daemon.start()
    send_tcp(daemon.ports["tcp"], numbered(first, 1))
    wait_until(lambda: stored_numbers(postgres, url)[2] == first, timeout=60, what="the last message stored")
    wait_until(lambda: daemon.metric('logguardd_consumer_lag_messages{consumer="archive"}') == 0, what="no lag")
    status = daemon.request("GET", "/status")[1]
    rows, distinct, _ = stored_numbers(postgres, url)
    assert rows == distinct == status["journal"]["head"] - 1
    # What a connection delivered is stored from its start without a hole: no batch is half there.
    assert postgres.query(_HOLES, url) == []
    assert daemon.stop() == 0


#: A connection's messages begin at a multiple of 1,000,000; list any whose stored numbers are not first..last.
_HOLES = """
SELECT n / 1000000, count(*), max(n % 1000000) FROM (SELECT substr(message, 8)::int AS n FROM logs) AS numbers
GROUP BY 1 HAVING count(*) <> max(n % 1000000) + 1
"""


def _send_until_killed(daemon: Daemon, first: int, seconds: float) -> int:
    """Send numbered messages, kill -9 after ``seconds``; return where the next connection's numbers begin."""
    killer = threading.Timer(seconds, daemon.kill)
    killer.start()
    at = first
    try:
        with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
            while at < first + 900_000:
                stream.sendall(numbered(at, 500))
                at += 500
                time.sleep(0.01)
    except OSError:
        pass
    killer.join()
    return first + 1_000_000


def test_a_full_journal_never_stops_bans(postgres: PostgreSQL, make_daemon: Callable[..., Daemon]) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(POSTGRES.format(url=url) + '[journal]\nmax_size = "16MiB"\n')
    daemon.start()
    postgres.stop()
    filler = b"".join(b"<13>Nov 20 10:00:00 web1 app[7]: %b%d\n" % (b"x" * 900, n) for n in range(20_000))
    send_tcp(daemon.ports["tcp"], filler)
    wait_until(lambda: daemon.http("/readyz")[0] == 503, what="the full journal")
    assert daemon.request("GET", "/status")[1]["components"]["journal"]["state"] == "down"

    send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.1", 6) + failed_logins("198.18.0.2", 3))
    wait_until(lambda: "198.18.0.1" in banned(daemon), what="a ban while the journal is full")

    postgres.start()
    wait_until(lambda: daemon.http("/readyz")[0] == 200, what="room in the journal")
    send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.2", 2))
    wait_until(lambda: _rows(postgres, url) == 20_011, timeout=60, what="all stored")
    wait_until(lambda: daemon.request("GET", "/status")[1]["detector"]["lag_messages"] == 0, what="all judged")
    # What was judged from memory does not count again when it is read from the journal.
    assert banned(daemon) == {"198.18.0.1"}
    send_tcp(daemon.ports["tcp"], failed_logins("198.18.0.2", 1))
    wait_until(lambda: "198.18.0.2" in banned(daemon), what="a ban by hits before and after")
    assert daemon.stop() == 0
    assert _rows(postgres, url) == 20_012


def test_datagrams_that_find_no_room_are_dropped_but_ban_all_the_same(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon('[archive]\nurl = "postgresql://nobody@127.0.0.1:1/db"\n[journal]\nmax_size = "16MiB"\n')
    daemon.start()
    dropped = 'logguardd_dropped_total{reason="queue-full"}'

    def flood() -> bool:
        """Fill the journal, then what waits for it; a busy disk makes it drop some before that, too."""
        before = daemon.metric(dropped)
        full = daemon.http("/readyz")[0] == 503
        send_udp(daemon.ports["udp"], *[b"<13>Nov 20 10:00:00 web1 app[7]: " + b"x" * 8000] * 50)
        return full and daemon.metric(dropped) >= before + 50

    wait_until(flood, what="no room at all")

    def attack() -> bool:
        send_udp(daemon.ports["udp"], *failed_logins("198.18.100.1", 6).splitlines())
        return "198.18.100.1" in banned(daemon)

    # Of a flood it looks only at so much at a time; this was one.
    wait_until(attack, what="the first ban without any room")
    hits = daemon.metric("logguardd_hits_total")
    for host in range(6):
        send_udp(daemon.ports["udp"], *failed_logins(f"198.18.{host}.1", 3).splitlines())
        send_udp(daemon.ports["udp"], *failed_logins(f"198.18.{host}.1", 3).splitlines())
        wait_until(lambda host=host: f"198.18.{host}.1" in banned(daemon), what="a ban without any room")
    before = daemon.metric(dropped)
    send_udp(daemon.ports["udp"], *failed_logins("198.18.9.1", 5).splitlines())
    wait_until(lambda: daemon.metric(dropped) == before + 5, what="all datagrams dropped and counted")
    wait_until(lambda: daemon.metric("logguardd_hits_total") >= hits + 41, what="all judged")
    assert "198.18.9.1" not in banned(daemon)
    assert daemon.stop() == 0


def _rows(postgres: PostgreSQL, url: str) -> int:
    return int(postgres.query("SELECT count(*) FROM logs", url)[0][0])


def test_a_stop_with_a_full_journal_says_what_is_given_up_in_time(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon('[archive]\nurl = "postgresql://nobody@127.0.0.1:1/db"\n[journal]\nmax_size = "16MiB"\n')
    daemon.start()
    lines = b"".join(b"<13>Nov 20 10:00:00 web1 app[7]: %06d %s\n" % (n, b"x" * 900) for n in range(1000))
    with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
        stream.settimeout(2)
        with suppress(TimeoutError):
            while True:
                stream.sendall(lines)
        taken = daemon.metric("logguardd_messages_total")
        journaled = daemon.metric("logguardd_journal_offset") - 1
        assert 0 < journaled < taken
        assert daemon.child is not None
        output = daemon.child.log
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5
    given_up = re.search(r"([0-9]+) messages given up: the journal could not be written", output.read_text())
    assert given_up
    # What the kernel still held of the connection is among them.
    assert int(given_up[1]) >= taken - journaled
