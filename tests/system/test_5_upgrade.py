"""`apt install` of a later package, on a server at work."""

import shutil

from tests.system.building import EARLIER_LINE
from tests.system.fleet import ATTACKER, answer, archived, banned, main_pid, query, wait_active
from tests.system.traffic import Traffic


def test_a_restart_loses_nothing(client, server):
    with Traffic(client, server, "restart") as traffic:
        server.sh("systemctl restart logguardd")
    assert traffic.arrived() == traffic.all()


def test_upgrade_under_traffic(fleet, server, client):
    """The administrator changed the configuration, and so did the package: dpkg asks, and keeps the former by default."""
    configured = server.file("/etc/logguardd/logguardd.toml")
    assert EARLIER_LINE in configured
    pids = {unit: main_pid(server, unit) for unit in ("logguardd.service", "logguardd-firewall.service")}
    shutil.copy(fleet.packages.current, server.shared)
    with Traffic(client, server, "upgrade") as traffic:
        package = f"/shared/{fleet.packages.current.name}"
        said = answer(server, "apt-get", "-y", "install", package, prompt="[default=N] ?", reply="\n")
        wait_active(server, "logguardd.service")
        wait_active(server, "logguardd-firewall.service")
    assert "Configuration file '/etc/logguardd/logguardd.toml'" in said
    assert "The default action is to keep your current version." in said
    assert server.sh("dpkg-query -W -f '${Version} ${Status}' logguardd") == (
        f"{fleet.packages.version} install ok installed"
    )
    assert server.file("/etc/logguardd/logguardd.toml") == configured
    assert EARLIER_LINE not in server.file("/etc/logguardd/logguardd.toml.dpkg-dist")
    assert server.sh("stat -c '%U:%G %a' /etc/logguardd/logguardd.toml") == "root:logguardd 640"
    for unit, pid in pids.items():
        assert main_pid(server, unit) not in (0, pid)
    assert traffic.sent > 100
    assert traffic.arrived() == traffic.all()


def test_what_was_there_still_is(server, client):
    assert archived(server, "paid 0042 in full") == 1
    assert ATTACKER in banned(server)
    assert ATTACKER in banned(client)
    assert int(query(server, "SELECT count(*) FROM blacklist WHERE is_active")[0][0]) == 1
    for unit in ("logguardd.socket", "logguardd-tls.socket", "logguardd.service", "logguardd-firewall.service"):
        assert server.sh(f"systemctl is-enabled {unit}; systemctl is-active {unit}") == "enabled\nactive"
    assert server.state() == "running"
