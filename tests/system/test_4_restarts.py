"""What kills the programs does not stop them: systemd starts them again, and its sockets stay open meanwhile."""

import pytest

from tests.servers.process import wait_until
from tests.system.fleet import ATTACKER, SERVER_NAME, archived, banned, main_pid, wait_active

SERVICES = ("logguardd.service", "logguardd-firewall.service")


def restarts(guest, unit):
    return int(guest.sh(f"systemctl show -P NRestarts {unit}"))


@pytest.fixture(autouse=True)
def _from_zero(server, client):
    for guest in (server, client):
        guest.sh("systemctl reset-failed")


def test_reload(server):
    """ExecReload: systemd sees the reload through, and nothing ends."""
    pid = main_pid(server, "logguardd.service")
    server.sh("systemctl reload logguardd")
    wait_until(lambda: "reloaded:" in server.journal("-b", "-u", "logguardd.service"), what="the reload")
    wait_active(server, "logguardd.service")
    assert main_pid(server, "logguardd.service") == pid


@pytest.mark.parametrize("unit", SERVICES)
def test_kill_9(server, unit):
    before = restarts(server, unit)
    pid = main_pid(server, unit)
    server.sh(f"kill -9 {pid}; logger --server 127.0.0.1 --port 514 --udp 'sent to nobody after {pid}'")
    server.sh(f"logger --server 127.0.0.1 --port 514 --tcp 'said to nobody after {pid}'")
    wait_until(lambda: restarts(server, unit) > before, what="a restart")
    wait_active(server, unit)
    assert main_pid(server, unit) != pid
    for words in (f"sent to nobody after {pid}", f"said to nobody after {pid}"):
        wait_until(lambda words=words: archived(server, words) == 1, what=words)
    wait_until(lambda: ATTACKER in banned(server), what="the ban in the kernel")


def test_watchdog(server, client):
    """Processes that hang, all at once since each takes half a minute."""
    hanging = [(server, unit) for unit in SERVICES] + [(client, f"logguardd-firewall@{SERVER_NAME}.service")]
    before = [restarts(guest, unit) for guest, unit in hanging]
    for guest, unit in hanging:
        guest.sh(f"kill -STOP {main_pid(guest, unit)}")
    server.sh("logger --server 127.0.0.1 --port 514 --udp 'sent to one who hangs'")
    for (guest, unit), count in zip(hanging, before, strict=True):
        wait_until(lambda guest=guest, unit=unit, count=count: restarts(guest, unit) > count, timeout=90, what=unit)
        wait_active(guest, unit)
        assert "atchdog" in guest.journal("-b", "-u", unit, "-n", "30")
    wait_until(lambda: archived(server, "sent to one who hangs") == 1, what="the message that waited")
    for guest in (server, client):
        wait_until(lambda guest=guest: ATTACKER in banned(guest), what="the ban in the kernel")
        assert guest.state() == "running"
