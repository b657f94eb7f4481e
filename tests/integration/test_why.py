"""logguardctl why: what the daemon knows of an address, with either archive and either limiter."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from logguardd import ctl, exits
from tests.integration.setups import logguardctl
from tests.servers.daemon import Daemon, send_tcp
from tests.servers.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

ATTACKER = "203.0.113.9"


def failed(address: str, number: int) -> bytes:
    return (
        f"<38>1 - web{number} sshd 7 - - Failed password for root from {address} port {40000 + number} ssh2\n".encode()
    )


@pytest.fixture(params=["embedded", "servers"])
def daemon(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon]) -> Daemon:
    config = '[detection]\nallowlist = ["198.51.100.0/24"]\n'
    if request.param == "servers":
        postgres, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_server")
        redis.flush()
        config += f'[archive]\nurl = "{postgres.fresh_database()}"\n[limiter]\nurl = "{redis.url}"\n'
    made = make_daemon(config)
    made.start()
    return made


def send(daemon: Daemon, *messages: bytes) -> None:
    """Send and wait until both consumers have them."""
    head = daemon.request("GET", "/status")[1]["journal"]["head"] + len(messages)
    send_tcp(daemon.ports["tcp"], b"".join(messages))

    def taken() -> bool:
        status = daemon.request("GET", "/status")[1]
        return status["archive"]["offset"] == status["detector"]["offset"] == head

    wait_until(taken, what="both consumers")


def why(daemon: Daemon, *argv: str) -> dict[str, Any]:
    return json.loads(logguardctl("--socket", daemon.control, "why", "--json", *argv).stdout)


def counted(found: dict[str, Any]) -> set[tuple[object, ...]]:
    return {tuple(one[key] for key in ("jail", "network", "port", "hits", "threshold")) for one in found["counting"]}


def test_an_address_on_its_way_to_a_ban_and_banned(daemon: Daemon) -> None:
    send(daemon, *(failed(ATTACKER, n) for n in range(5)))
    found = why(daemon, ATTACKER)
    assert (found["banned"], found["protected"], found["bans"], found["archive"]) == (False, None, [], None)
    assert counted(found) == {
        ("auth", ATTACKER, 0, 5, 5), ("flood", ATTACKER, 0, 0, 100), ("flood", ATTACKER, 22, 5, 100)
    }  # fmt: skip
    assert [one["sender"] for one in found["messages"]] == ["web4", "web3", "web2", "web1", "web0"]
    assert found["messages"][0] | {"received": ""} == {
        "received": "", "sender": "web4", "program": "sshd", "rule": "sshd-failed-password",
        "tags": ["auth-failure"], "port": 22,
        "message": f"Failed password for root from {ATTACKER} port 40004 ssh2",
    }  # fmt: skip

    send(daemon, failed(ATTACKER, 5))
    found = why(daemon, ATTACKER)
    assert found["banned"]
    (ban,) = found["bans"]
    assert (ban["network"], ban["port"], ban["jail"], ban["active"], ban["count"]) == (ATTACKER, 0, "auth", True, 1)
    assert ban["reason"].startswith("6 hits of sshd-failed-password within 300 s")
    # A question counts nothing.
    assert ("auth", ATTACKER, 0, 6, 5) in counted(found) == counted(why(daemon, ATTACKER))

    assert daemon.request("DELETE", f"/bans/{ATTACKER}")[0] == 200
    found = why(daemon, ATTACKER)
    assert not found["banned"]
    assert [ban["active"] for ban in found["bans"]] == [False]
    assert ("auth", ATTACKER, 0, 0, 5) in counted(found)


def test_ipv6_is_counted_by_its_network_and_a_port_by_itself(daemon: Daemon) -> None:
    send(daemon, *(failed(f"2001:db8::{n}", n) for n in range(1, 7)))
    found = why(daemon, "2001:DB8::3", "--port", "22")
    assert found["address"] == "2001:db8::3"
    assert counted(found) == {("auth", "2001:db8::/64", 0, 6, 5), ("flood", "2001:db8::3", 22, 1, 100)}
    assert found["banned"]
    assert [ban["network"] for ban in found["bans"]] == ["2001:db8::/64"]
    assert len(found["messages"]) == 1


def test_a_protected_address_for_people(daemon: Daemon) -> None:
    send(daemon, *(failed("198.51.100.7", n) for n in range(30)))
    assert why(daemon, "198.51.100.7")["protected"] == "allowlist"
    shown = logguardctl("--socket", daemon.control, "why", "198.51.100.7").stdout
    assert shown.startswith("198.51.100.7 is never banned: allowlist\n")
    assert shown.count("Failed password for root") == 10
    assert logguardctl("--socket", daemon.control, "why", ATTACKER).stdout.startswith(f"{ATTACKER} is not banned.\n")


def test_what_is_no_address(make_daemon: Callable[..., Daemon], capsys: pytest.CaptureFixture[str]) -> None:
    daemon = make_daemon()
    daemon.start()
    for given, complaint in (
        ("203.0.113.0/24", "203.0.113.0/24 is a network; allowed: one address"),
        ("bogus", '"bogus"; allowed: one address'),
        ("::ffff:203.0.113.9", '"::ffff:203.0.113.9" is an IPv4 address in IPv6; allowed: 203.0.113.9'),
    ):
        assert exits.run(ctl.command, "logguardctl", ["--socket", daemon.control, "why", given]) == 2
        assert capsys.readouterr().err == f"logguardctl: address: {complaint}\n"


def test_without_its_archive_the_daemon_tells_the_rest(make_daemon: Callable[..., Daemon]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        daemon = make_daemon(f'[archive]\nurl = "postgresql://x@127.0.0.1:{nobody.getsockname()[1]}/x"\n')
        daemon.start()
        send_tcp(daemon.ports["tcp"], b"".join(failed(ATTACKER, n) for n in range(6)))
        wait_until(lambda: why(daemon, ATTACKER)["banned"], what="the ban")
        found = why(daemon, ATTACKER)
        assert found["messages"] == []
        assert "Connection refused" in found["archive"]
        shown = logguardctl("--socket", daemon.control, "why", ATTACKER).stdout
        assert "The archive does not tell its messages: PostgreSQL" in shown
