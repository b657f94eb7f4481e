"""Real rsyslogds with our own snippets send to a real daemon: PostgreSQL holds every message, once, fields right.

LOGGUARDD_TEST_MESSAGES sets how many messages each transport carries in each template (100,000).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.servers.certificates import Authority
from tests.servers.process import wait_until
from tests.servers.rsyslog import Rsyslogd, snippet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers.daemon import Daemon
    from tests.servers.postgres import PostgreSQL

TEMPLATES = ("RSYSLOG_TraditionalForwardFormat", "RSYSLOG_ForwardFormat", "RSYSLOG_SyslogProtocol23Format")
EACH = int(os.environ.get("LOGGUARDD_TEST_MESSAGES", "100000"))
#: Messages a second over all senders; UDP must lose none on loopback at 20,000/s.
UDP_RATE = 20_000


def transport_snippet(transport: str, daemon: Daemon, authority: Authority) -> str:
    if transport == "tls":
        certificate, key = authority.issue("web1.example.net")
        return snippet("tls", daemon.ports["tls"], {
            "/etc/rsyslog-tls/ca.pem": str(authority.certificate),
            "/etc/rsyslog-tls/cert.pem": str(certificate),
            "/etc/rsyslog-tls/key.pem": str(key),
            'PermittedPeers="logs.example.com"': 'PermittedPeers="localhost"',
        })  # fmt: skip
    if transport == "udp":
        return snippet("udp", daemon.ports["udp"])
    framing = {"tcp-octet-counted": "octet-counted", "tcp-lf": "traditional"}[transport]
    return snippet("tcp", daemon.ports["tcp"], {'TCP_Framing="octet-counted"': f'TCP_Framing="{framing}"'})


def feed(sender: Rsyslogd, first: int, rate: float) -> None:
    """Give rsyslogd EACH numbered messages, ``rate`` a second at most (0: as it takes them)."""
    started = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect(str(sender.folder / "log.sock"))
        for number in range(EACH):
            log.send(b"<38>Nov 20 10:00:00 worker[4711]: number=%d" % (first + number))
            if rate and number % 50 == 0:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))


@pytest.mark.parametrize("transport", ["udp", "tcp-lf", "tcp-octet-counted", "tls"])
def test_every_message_of_rsyslog_is_in_postgresql_once(
    transport: str, postgres: PostgreSQL, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("localhost")
    url = postgres.fresh_database()
    daemon = make_daemon(
        f'[archive]\nurl = "{url}"\n[listen]\ntls = ["127.0.0.1:{{tls}}"]\n'
        f'[tls]\ncertificate = "{certificate}"\nprivate_key = "{key}"\nclient_ca = "{authority.certificate}"\n'
    )
    daemon.start()
    text = transport_snippet(transport, daemon, authority)
    senders = [
        Rsyslogd(tmp_path / f"rsyslog{number}", text.replace(TEMPLATES[2], template))
        for number, template in enumerate(TEMPLATES)
    ]
    rate = UDP_RATE / len(senders) if transport == "udp" else 0
    feeders = [
        threading.Thread(target=feed, args=(sender, number * EACH, rate)) for number, sender in enumerate(senders)
    ]
    try:
        for sender in senders:
            sender.start()
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()
        total = EACH * len(TEMPLATES)
        wait_until(
            lambda: daemon.metric(f'logguardd_messages_total{{transport="{transport[:3]}"}}') >= total,
            timeout=90, what=f"{total} messages received",
        )  # fmt: skip
    finally:
        for sender in senders:
            sender.stop()
    wait_until(
        lambda: daemon.metric("logguardd_archive_rows_total") >= total, timeout=60, what=f"{total} messages stored"
    )
    host = socket.gethostname().partition(".")[0]
    identity = " (web1.example.net)" if transport == "tls" else ""
    assert postgres.query(
        """
        SELECT client_id, service_name, procid, facility, log_level, origin, parse_error, count(*),
               count(DISTINCT substr(message, 8)::int), min(substr(message, 8)::int), max(substr(message, 8)::int),
               bool_and(abs(extract(epoch FROM timestamp - created_at)) < 120)
        FROM logs GROUP BY 1, 2, 3, 4, 5, 6, 7
        """,
        url,
    ) == [
        [host, "worker", "4711", "4", "info", f"{transport[:3]}://127.0.0.1{identity}", "",
         str(total), str(total), "0", str(total - 1), "t"]
    ]  # fmt: skip
    assert daemon.metric("logguardd_dropped_total") == 0
    assert daemon.stop() == 0
