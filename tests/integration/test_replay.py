"""logguardctl replay: what came, judged again from the journal and from the archive, against what the daemon did."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from logguardd import ctl, exits
from logguardd.archive.iso import format_time
from tests.integration.setups import logguardctl
from tests.servers.daemon import Daemon, send_tcp, send_udp
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ODD = b"<13>1 - h app - - - na\xefve, \\xef and a tab\t\n<38>sshd[1]: Connection closed by invalid user x 203.0.113.77 port 1 [preauth]\nplain\n"
CONFIG = '[detection]\nallowlist = ["198.51.100.0/24"]\n[jail.flood]\nthreshold = 20\n'
RULE = """
[[rule]]
name = "shop-failed"
app_name = ["shop"]
match = ["login of <user> failed for <ip>"]
service = "https"
tags = ["auth-failure"]
severity = "medium"
example = ["login of bob failed for 203.0.113.5"]
"""


def failed(address: str, host: int) -> bytes:
    return f"<38>1 - web{host} sshd 7 - - Failed password for root from {address} port 40000 ssh2\n".encode()


def shop(address: str) -> bytes:
    return f"<38>1 - web1 shop - - - login of <b> failed for {address}\n".encode()


@pytest.fixture(params=["sqlite", "postgres"])
def daemon(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon]) -> Daemon:
    config = CONFIG
    if request.param == "postgres":
        config += f'[archive]\nurl = "{request.getfixturevalue("postgres").fresh_database()}"\n'
    made = make_daemon(config)
    made.start()
    return made


def feed(daemon: Daemon) -> int:
    """Send attacks, once over UDP; return how many messages were sent, once all are archived and judged."""
    messages = [failed(f"203.0.113.{n % 3}", n) for n in range(18)]
    messages += [failed(f"2001:db8::{n:x}", n) for n in range(6)]
    messages += [failed("198.51.100.7", n) for n in range(9)]
    messages += [shop("203.0.113.88")] * 12
    messages += [
        b"<13>1 - gate kernel - - - DROP IN=eth0 OUT= SRC=203.0.113.99 DST=192.0.2.1 PROTO=TCP SPT=1 DPT=23\n"
    ] * 30
    stream = b"".join(messages) + ODD
    send_tcp(daemon.ports["tcp"], stream)
    send_udp(daemon.ports["udp"], *(failed("203.0.113.50", n).strip() for n in range(6)))
    number = stream.count(b"\n") + 6

    def taken() -> bool:
        status = daemon.request("GET", "/status")[1]
        return status["archive"]["offset"] == status["detector"]["offset"] == number + 1

    wait_until(taken, what="both consumers")
    return number


def replay(daemon: Daemon, *argv: str) -> dict[str, Any]:
    return json.loads(logguardctl("--config", str(daemon.file), "replay", "--json", *argv).stdout)


def judged(bans: list[dict[str, Any]]) -> set[tuple[object, ...]]:
    """What makes a ban the same: its times are of the receipt, which archive and journal keep to the microsecond."""
    keys = ("network", "port", "jail", "since", "until", "count", "reason")
    return {tuple(ban[key] for key in keys) for ban in bans}


def test_it_comes_to_what_the_daemon_did(daemon: Daemon) -> None:
    number = feed(daemon)
    done = judged(daemon.request("GET", "/bans")[1]["bans"])
    assert len(done) == 6
    for source in ("journal", "archive"):
        found = replay(daemon, "--from", source)
        assert judged(found["bans"]) == done
        assert found["bans_made"] == 6
        assert (found["messages"], found["source"]) == (number, source)
        assert [(ban["network"], ban["protected"]) for ban in found["prevented"]] == [("198.51.100.7", "allowlist")]
        assert found["claimed"]["sshd-failed-password"] == found["hits"]["sshd-failed-password"] == 39
        assert found["claimed"]["sshd-ended-before-login"] == 1
        assert "shop-failed" not in found["claimed"]
    # Nobody was banned for it, and the daemon goes on.
    assert judged(daemon.request("GET", "/bans")[1]["bans"]) == done
    assert daemon.stop() == 0
    assert judged(replay(daemon)["bans"]) == done


def test_new_rules_and_jails_are_tried_on_what_came_before_them(daemon: Daemon, tmp_path: Path) -> None:
    feed(daemon)
    rules = tmp_path / "shop.toml"
    rules.write_text(RULE)
    found = replay(daemon, "--rules", str(rules))
    assert {(ban["network"], ban["jail"]) for ban in found["bans"]} == {("203.0.113.88", "auth")}
    assert found["claimed"] == {"shop-failed": 12}
    other = tmp_path / "other.toml"
    other.write_text(
        daemon.file.read_text().replace("threshold = 20", "threshold = 20000") + "[jail.auth]\nthreshold = 8\n"
    )
    found = json.loads(logguardctl("--config", str(other), "replay", "--json").stdout)
    assert found["bans"] == []
    assert [ban["network"] for ban in found["prevented"]] == ["198.51.100.7"]


def test_a_time_of_the_past(daemon: Daemon, tmp_path: Path) -> None:
    number = feed(daemon)
    quick = tmp_path / "shop.toml"
    quick.write_text(RULE)
    with contextlib.closing(sqlite3.connect(daemon.folder / "journal.db")) as journal:
        ((last,),) = journal.execute("SELECT max(received_at) FROM batches")

    def messages(source: str, *argv: str) -> int:
        return replay(daemon, "--rules", str(quick), "--from", source, *argv)["messages"]

    for source in ("journal", "archive"):
        assert messages(source, "--until", "1h") == 0
        assert messages(source, "--since", "2026-01-01T00:00:00+02:00") == number
        moment = format_time(last)
        later, earlier = messages(source, "--since", moment), messages(source, "--until", moment)
        assert 0 < later < number
        assert later + earlier == number


def test_for_people(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(CONFIG)
    daemon.start()
    number = feed(daemon)
    shown = logguardctl("--config", str(daemon.file), "replay").stdout
    assert shown.startswith(f"{number} messages from the journal, received from ")
    assert "sshd-failed-password" in shown
    assert "Not banned, as something protects them:" in shown
    assert "allowlist: " in shown
    assert shown.endswith("6 bans would have been made.\n")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("--since", "yesterday"), '"yesterday" is no time; allowed: 2h (that long ago), 2026-11-20T14:00, or '),
        (("--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("--rules", "/nowhere.toml"), "/nowhere.toml"),
        (("--from", "archive"), "archive: {folder}/archive.db: No such file or directory"),
        ((), "journal: {folder}/journal.db: No such file or directory"),
    ],
)
def test_wrong_usage(make_daemon: Callable[..., Daemon], capsys: pytest.CaptureFixture[str], argv, complaint) -> None:
    daemon = make_daemon()
    assert exits.run(ctl.command, "logguardctl", ["--config", str(daemon.file), "replay", *argv]) == 2
    err = capsys.readouterr().err
    assert complaint.format(folder=daemon.folder) in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_journal_is_left_as_it_is(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    for content, what in (
        (b"", "not a logguardd journal"),
        (b"text\n" * 100, "the file is damaged or no SQLite database"),
    ):
        (daemon.folder / "journal.db").write_bytes(content)
        done = logguardctl("--config", str(daemon.file), "replay", check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"logguardctl: journal: {daemon.folder}/journal.db: {what}")
        assert done.stderr.count("\n") == 1
        assert (daemon.folder / "journal.db").read_bytes() == content
    assert sorted(path.name for path in daemon.folder.iterdir()) == ["journal.db", "logguardd.toml"]
