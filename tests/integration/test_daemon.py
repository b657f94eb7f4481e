"""The daemon as its user sees it: messages in, rows and bans out, reload, stop, restart."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from tests.servers.daemon import CHECKOUT, Daemon, send_tcp, send_udp
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.postgres import PostgreSQL
    from tests.servers.redis import Redis

RULE = """
[[rule]]
name = "doorbell"
app_name = ["doorbell"]
match = ["ring from <ip> port <port>"]
tags = ["{tag}"]
severity = "low"
example = ["ring from 192.0.2.9 port 1"]
"""


def failed_login(address: str, host: str = "web1", port: int = 4022) -> bytes:
    return f"<86>Nov 20 10:00:00 {host} sshd[77]: Failed password for root from {address} port {port} ssh2".encode()


def banned(daemon: Daemon) -> dict[str, dict[str, object]]:
    return {ban["network"]: ban for ban in daemon.request("GET", "/bans")[1]["bans"]}


def ban_by_hits(daemon: Daemon, address: str) -> None:
    send_tcp(daemon.ports["tcp"], b"".join(failed_login(address, f"web{n}") + b"\n" for n in range(6)))
    wait_until(lambda: address in banned(daemon), what=f"the ban of {address}")


def test_all_formats_on_one_port_become_rows(postgres: PostgreSQL, make_daemon: Callable[..., Daemon]) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(f'[archive]\nurl = "{url}"\n[listen]\ntimezone = "UTC"\n')
    daemon.start()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    five = (
        f'<165>1 {stamp}.123456Z web5.example.net app 8710 ID47 [x@32473 a="b \\"c\\" \\]"][y@32473 d="e"] '
        "\N{ZERO WIDTH NO-BREAK SPACE}h\N{LATIN SMALL LETTER E WITH ACUTE}llo"
    )
    lines = [
        five.encode(),
        failed_login("203.0.113.9"),
        b"no priority at all",
        b"<999>bad priority",
        b"<13>1 2026-99-99T10:00:00Z host app",
        b"<13>Nov 20 10:00:00 web1 app: bytes \xff\xfe and \x07 and tab\there",
    ]
    with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
        stream.sendall(b"%d %b" % (len(lines[0]), lines[0]) + b"\n".join(lines[1:5]) + b"\n")
    send_udp(daemon.ports["udp"], lines[5], b"<13>Nov 20 10:00:00 web1 app: two\nlines\0nul")
    wait_until(lambda: int(postgres.query("SELECT count(*) FROM logs", url)[0][0]) >= 7, what="seven rows")

    def row(where: str, columns: str) -> list[str]:
        (found,) = postgres.query(f"SELECT {columns} FROM logs WHERE {where}", url)
        return found

    assert row("msgid = 'ID47'", "message, client_id, service_name, procid, facility, log_level, structured_data") == [
        "h\N{LATIN SMALL LETTER E WITH ACUTE}llo", "web5.example.net", "app", "8710", "20", "notice",
        '{"x@32473": {"a": "b \\"c\\" ]"}, "y@32473": {"d": "e"}}',
    ]  # fmt: skip
    assert row("msgid = 'ID47'", "to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')") == [
        f"{stamp}.123456"
    ]
    assert row("rule = 'sshd-failed-password'", "host(source_ip), source_port, destination_port, client_id, origin") == [
        "203.0.113.9", "4022", "22", "web1", "tcp://127.0.0.1",
    ]  # fmt: skip
    assert row("raw_log = 'no priority at all'", "facility, log_level, parse_error IS NULL") == ["1", "notice", "t"]
    assert row("raw_log = '<999>bad priority'", "message, parse_error IS NULL") == ["<999>bad priority", "f"]
    assert row("raw_log = '<13>1 2026-99-99T10:00:00Z host app'", "parse_error IS NULL") == ["f"]
    assert row("message LIKE 'bytes%'", "message") == ["bytes \\xff\\xfe and \x07 and tab\there"]
    assert row("message LIKE 'two%'", "message, origin") == ["two#012lines#000nul", "udp://127.0.0.1"]
    assert daemon.stop() == 0


def test_a_ban_has_its_start_end_count_and_reason_and_comes_back_counted(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    url = postgres.fresh_database()
    daemon = make_daemon(f'[archive]\nurl = "{url}"\n[jail.auth]\nban = "1s"\nwindow = "1s"\nescalation = 2\n')
    daemon.start()
    ban_by_hits(daemon, "203.0.113.9")
    query = "SELECT host(ip_address), port, blacklist_count, is_active, extract(epoch FROM expires_at - last_blacklisted_at)::int FROM blacklist"
    wait_until(lambda: postgres.query(query, url) == [["203.0.113.9", "0", "1", "t", "1"]], what="the first ban stored")
    wait_until(lambda: postgres.query(query, url) == [["203.0.113.9", "0", "1", "f", "1"]], what="its end stored")
    assert not banned(daemon)
    ban_by_hits(daemon, "203.0.113.9")
    wait_until(lambda: postgres.query(query, url)[0][2:] == ["2", "t", "2"], what="the second ban, twice as long")
    reason, metadata = postgres.query("SELECT reason, metadata FROM blacklist", url)[0]
    assert "sshd-failed-password" in reason
    assert json.loads(metadata)["jail"] == "auth"
    assert daemon.stop() == 0


def test_bans_are_in_force_again_after_a_restart_with_and_without_postgresql(
    postgres: PostgreSQL, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(f'[archive]\nurl = "{postgres.fresh_database()}"\n')
    daemon.start()
    ban_by_hits(daemon, "203.0.113.9")
    until = banned(daemon)["203.0.113.9"]["until"]
    assert daemon.stop() == 0
    daemon.start()
    assert banned(daemon)["203.0.113.9"]["until"] == until
    assert daemon.stop() == 0
    postgres.stop()
    daemon.start()
    assert banned(daemon)["203.0.113.9"]["until"] == until
    assert daemon.request("GET", "/status")[1]["components"]["archive"]["state"] == "degraded"
    postgres.start()
    wait_until(
        lambda: daemon.request("GET", "/status")[1]["components"]["archive"]["state"] == "up", what="the archive again"
    )
    assert banned(daemon)["203.0.113.9"]["until"] == until
    assert daemon.stop() == 0


def test_unban_lifts_the_ban_and_forgets_the_hits(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    ban_by_hits(daemon, "203.0.113.9")
    assert daemon.request("DELETE", "/bans/203.0.113.9")[0] == 200
    assert not banned(daemon)
    send_tcp(daemon.ports["tcp"], failed_login("203.0.113.9") + b"\n")
    wait_until(lambda: daemon.request("GET", "/status")[1]["detector"]["offset"] == 8, what="the seventh hit judged")
    assert not banned(daemon)
    assert daemon.stop() == 0


def test_what_it_logs_itself_is_no_hit_when_it_comes_back_by_syslog(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon('[jail.strict]\nhits = ["*"]\ngroup_by = ["address"]\nthreshold = 0\n')
    daemon.start()
    assert daemon.request("POST", "/bans", {"network": "203.0.113.9"})[0] == 201
    assert daemon.request("DELETE", "/bans/203.0.113.9")[0] == 200
    assert daemon.child is not None
    said = [line for line in daemon.child.output().splitlines() if "ban 203.0.113.9" in line]
    assert len(said) == 2
    send_tcp(daemon.ports["tcp"], b"".join(b"<28>1 - logs logguardd 1 - - %s\n" % line[28:].encode() for line in said))
    wait_until(lambda: daemon.request("GET", "/status")[1]["detector"]["offset"] == 3, what="both judged")
    assert not banned(daemon)
    assert daemon.stop() == 0


def test_a_ban_that_has_just_ended_is_not_listed_as_in_force(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    listed = []

    def over() -> bool:
        listed[:] = daemon.request("GET", "/bans")[1]["bans"]
        assert all(ban["active"] for ban in listed)
        return not listed

    for number in range(1, 4):  # upkeep takes them out of the book twice a second
        assert daemon.request("POST", "/bans", {"network": f"203.0.113.{number}", "duration": "1s"})[0] == 201
        wait_until(over, what="the ban's end")
    assert daemon.stop() == 0


def test_two_daemons_on_one_redis_count_together_and_share_bans(
    redis_server: Redis, make_daemon: Callable[..., Daemon]
) -> None:
    limiter = f'[limiter]\nurl = "{redis_server.url}"\n'
    one, two = make_daemon(limiter, name="one"), make_daemon(limiter, name="two")
    one.start()
    two.start()
    for number in range(6):
        send_udp((one, two)[number % 2].ports["udp"], failed_login("203.0.113.9", f"web{number}"))
    for daemon in (one, two):
        wait_until(lambda daemon=daemon: "203.0.113.9" in banned(daemon), what="the ban in both daemons")
    assert two.request("DELETE", "/bans/203.0.113.9")[0] == 200
    wait_until(lambda: not banned(one), what="the unban in the other daemon")
    assert one.stop() == two.stop() == 0


def test_sighup_reloads_rules_without_dropping_a_connection_and_a_bad_file_changes_nothing(
    make_daemon: Callable[..., Daemon], tmp_path
) -> None:
    rules = tmp_path / "rules.d"
    rules.mkdir()
    (rules / "door.toml").write_text(RULE.format(tag="harmless"))
    jail = '[jail.door]\nhits = ["{}"]\ngroup_by = ["address"]\nwindow = "60s"\nthreshold = 2\nban = "5m"\n'
    config = f'[detection]\nrules = ["{rules}"]\n[jail.flood]\nenabled = false\n'
    daemon = make_daemon(config)
    daemon.start()
    ring = b"<13>Nov 20 10:00:00 gate doorbell: ring from 203.0.113.9 port 1\n"
    with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
        stream.sendall(ring * 5)
        wait_until(lambda: daemon.request("GET", "/status")[1]["detector"]["offset"] == 6, what="five judged")
        assert not banned(daemon)

        (rules / "door.toml").write_text("[[rule]\n")
        daemon.child.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the old configuration stays in force" in daemon.child.output(), what="the error")
        assert str(rules / "door.toml") in daemon.child.output()
        assert "Traceback" not in daemon.child.output()

        (rules / "door.toml").write_text(RULE.format(tag="rude"))
        daemon.write_config(config + jail.format("rude"))
        daemon.child.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded: 1 rules, 2 jails" in daemon.child.output(), what="the new rules")
        stream.sendall(ring * 3)
        wait_until(lambda: "203.0.113.9" in banned(daemon), what="a ban by the new jail")
    assert daemon.stop() == 0


def test_sighup_during_the_start_is_answered_after_it(make_daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemon = make_daemon(f'[archive]\nurl = "postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"\n')
        daemon.start(ready=False)
        # It waits for the archive now, which takes the connection and says nothing.
        wait_until((daemon.folder / "journal.db-wal").exists, what="the open journal")
        daemon.child.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded: " in daemon.child.output(), timeout=30, what="the reload")
        assert daemon.request("GET", "/status")[0] == 200
        assert daemon.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_mean_nothing_do_not_end_it(make_daemon: Callable[..., Daemon], number: signal.Signals) -> None:
    daemon = make_daemon()
    daemon.start()
    assert daemon.child is not None
    daemon.child.process.send_signal(number)
    wait_until(lambda: f"{number.name}: there is nothing to do" in daemon.child.output(), what="a line about it")
    assert daemon.stop() == 0


def test_sigterm_stores_what_was_sent_and_ends_within_five_seconds(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    count = 20_000
    with socket.create_connection(("127.0.0.1", daemon.ports["tcp"])) as stream:
        stream.sendall(b"".join(b"<13>Nov 20 10:00:00 web1 app: number %d\n" % n for n in range(count)))
        wait_until(lambda: daemon.metric("logguardd_messages_total") >= count, what="all received")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5
    with sqlite3.connect(daemon.folder / "archive.db") as archive:
        assert archive.execute("SELECT count(*), count(DISTINCT message) FROM logs").fetchone() == (count, count)
    archive.close()


def test_health_and_metrics_tell_what_is_going_on(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    assert daemon.http("/healthz")[0] == 200
    status, text = daemon.http("/readyz")
    assert status == 200
    assert set(json.loads(text)["components"]) == {"journal", "archive", "detector", "limiter", "firewall"}
    exposed = daemon.http("/metrics")[1]
    assert 'logguardd_bans_total{jail="auth"} 0.0' in exposed
    assert 'logguardd_bans_total{jail="flood"} 0.0' in exposed
    ban_by_hits(daemon, "203.0.113.9")
    assert daemon.metric('logguardd_messages_total{transport="tcp"}') == 6
    assert daemon.metric('logguardd_hits_total{rule="sshd-failed-password"}') == 6
    assert daemon.metric('logguardd_bans_total{jail="auth"}') == 1
    assert daemon.metric("logguardd_receive_to_ban_seconds_count") == 1
    assert daemon.metric("logguardd_receive_to_journal_seconds_count") > 0
    wait_until(lambda: daemon.metric("logguardd_archive_rows_total") == 6, what="six rows in the metrics")
    wait_until(lambda: daemon.metric("logguardd_journal_offset") == 7, what="the journal's head in the metrics")
    wait_until(lambda: daemon.metric('logguardd_consumer_lag_messages{consumer="archive"}') == 0, what="no lag")
    assert daemon.stop() == 0


def test_printing_does_not_deny_that_somebody_follows(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()

    def firewall() -> str:
        return str(daemon.request("GET", "/status")[1]["components"]["firewall"]["detail"])

    assert firewall() == "print: commands are written, nothing is blocked"
    with socket.socket(socket.AF_UNIX) as follower:
        follower.connect(daemon.control)
        follower.sendall(b"GET /follow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: firewall() == "print: commands are written; logguardd-firewall follows", what="the follower")
    wait_until(lambda: firewall().endswith("nothing is blocked"), what="the follower's end")


def test_a_second_daemon_on_the_same_data_is_refused_in_one_line(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    second = Daemon(daemon.folder, "")
    second.start(ready=False)
    wait_until(lambda: not second.child.alive(), what="the second daemon's end")
    assert second.child.process.returncode in (1, 2)
    assert "Traceback" not in second.child.output()
    assert daemon.request("GET", "/status")[0] == 200
    assert daemon.stop() == 0


def test_the_shipped_scenario_attack_bans_its_attackers_only(make_daemon: Callable[..., Daemon]) -> None:
    import subprocess
    import sys

    daemon = make_daemon()
    daemon.start()
    subprocess.run(
        [sys.executable, str(CHECKOUT / "scripts/generate_logs.py"), "--scenario", "attack", "--rate", "0", "--count", "5000",
         "--target", f"tcp://127.0.0.1:{daemon.ports['tcp']}"], check=True, capture_output=True,
    )  # fmt: skip
    wait_until(lambda: daemon.request("GET", "/status")[1]["detector"]["offset"] == 5001, what="all judged")
    networks = banned(daemon)
    assert len({network for network in networks if network.startswith("203.0.113.")}) == 9
    assert any(network.startswith("2001:db8:bad:") for network in networks)
    assert not {network for network in networks if not network.startswith(("203.0.113.", "2001:db8:bad:"))}
    assert daemon.stop() == 0
