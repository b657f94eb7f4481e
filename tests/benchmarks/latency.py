"""From receiving the hit that exceeds to the ban in a follower's hands, p50 and p99."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import threading
import time

from tests.benchmarks.measure import Bench, Figure, until
from tests.servers.daemon import Daemon

ATTACKERS = 200
#: Failed logins that the shipped jail "auth" allows within its window.
THRESHOLD = 5


class Follower(threading.Thread):
    """Follows the ban feed and notes when each network arrived."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.arrived: dict[str, float] = {}
        self.connected = threading.Event()

    def run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream, contextlib.suppress(OSError):
            stream.connect(self.path)
            stream.sendall(b"GET /follow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = http.client.HTTPResponse(stream)
            answer.begin()
            while line := answer.readline():
                now = time.monotonic()
                event = json.loads(line)
                self.connected.set()
                for ban in event.get("add", ()):
                    self.arrived.setdefault(ban["network"].partition("/")[0], now)


def ban_latency(bench: Bench) -> list[Figure]:
    """Return p50 and p99 of milliseconds from sending the sixth failed login to the ban at a follower."""
    daemon = Daemon(
        bench.folder / "latency",
        f'[archive]\nurl = "{bench.postgres.fresh_database()}"\n[limiter]\nurl = "{bench.redis.url}"\n'
        '[firewall]\nbackend = "nftables"\n',
    )
    daemon.start()
    try:
        follower = Follower(daemon.control)
        follower.start()
        if not follower.connected.wait(10):
            raise RuntimeError("no answer to GET /follow")
        sent: dict[str, float] = {}
        with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(ATTACKERS):
                address = f"203.0.{112 + number // 250}.{1 + number % 250}"
                line = b"<86>Nov 20 10:00:00 web%d sshd[77]: Failed password for root from %b port 4022 ssh2\n"
                for host in range(THRESHOLD):
                    stream.sendall(line % (host, address.encode()))
                time.sleep(0.02)  # the moment of the sixth is to be its own
                sent[address] = time.monotonic()
                stream.sendall(line % (THRESHOLD, address.encode()))
            until(lambda: len(follower.arrived) >= ATTACKERS, timeout=30, what="bans")
    finally:
        daemon.stop()
    took = [1000 * (follower.arrived[address] - at) for address, at in sent.items()]
    cuts = statistics.quantiles(took, n=100)
    return [
        Figure("receive to ban, p50", cuts[49], "ms", f"{ATTACKERS} bans"),
        Figure("receive to ban, p99", cuts[98], "ms"),
    ]
