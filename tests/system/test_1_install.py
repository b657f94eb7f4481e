"""`apt install ./logguardd_*.deb` on a server, and on a host whose rsyslog has port 514."""

import json

from tests.servers.process import wait_until
from tests.system.fleet import install, wait_active
from tests.system.leftovers import remember

UNITS = ("logguardd.socket", "logguardd.service", "logguardd-firewall.service")


def test_server(fleet, server):
    server.apt("install", "--no-install-recommends", "postgresql", "redis-server", "openssl")
    remember(server, fleet.packages.earlier)
    said = install(server, fleet.packages.earlier)
    assert "port 514 is already in use" not in said
    assert server.sh("dpkg-query -W -f '${Version} ${Status}' logguardd") == (
        f"{fleet.packages.earlier_version} install ok installed"
    )
    assert server.sh("dpkg --verify logguardd") == ""


def test_it_runs_at_once(server):
    for unit in UNITS:
        wait_active(server, unit)
        assert server.sh(f"systemctl is-enabled {unit}") == "enabled"
    assert server.sh("systemctl is-enabled logguardd-tls.socket", check=False) == "disabled"
    listening = server.sh("ss -Hlntu 'sport = :514' | awk '{print $1}'").split()
    assert {"udp", "tcp"} <= set(listening)
    assert server.state() == "running"
    status = json.loads(server.sh("logguardctl status --json"))
    assert {part["state"] for part in status["components"].values()} == {"up"}


def test_files(server):
    assert server.sh("stat -c '%U:%G %a' /etc/logguardd/logguardd.toml") == "root:logguardd 640"
    assert server.sh("stat -c '%U:%G %a' /var/lib/logguardd") == "logguardd:logguardd 750"
    assert server.sh("stat -c '%U:%G' /run/logguardd") == "logguardd:logguardd"
    name, _, uid, _, _, home, shell = server.sh("getent passwd logguardd").split(":")
    assert (name, home) == ("logguardd", "/var/lib/logguardd")
    assert int(uid) < 1000
    assert shell.endswith("nologin")
    conffiles = server.sh("dpkg-query -W -f '${Conffiles}' logguardd")
    assert "/etc/logguardd/logguardd.toml" in conffiles
    assert "/etc/logguardd/rules.d/10-sshd-auth.toml" in conffiles
    pages = {"man8/logguardd.8", "man8/logguardctl.8", "man8/logguardd-firewall.8", "man5/logguardd.toml.5"}
    shipped = server.sh("dpkg -L logguardd")
    for page in pages | {"man5/logguardd-rules.5"}:
        assert f"/usr/share/man/{page}.gz" in shipped
    assert server.sh("logguardd check-config >&2; logguardd --version").split()[-1]


def test_little_is_exposed(server):
    for unit in ("logguardd.service", "logguardd-firewall.service"):
        server.run("systemd-analyze", "security", "--no-pager", "--threshold=15", unit)
    # And what the units ask for is what the processes have.
    daemon, firewall = (server.sh(f"systemctl show -P MainPID {unit}") for unit in UNITS[1:])
    assert server.sh(f"ps -o user= -p {daemon}").startswith("loggua")
    assert server.sh(f"ps -o user= -p {firewall}") != "root"


def test_messages_are_kept_at_once(server):
    """With the embedded databases."""
    server.sh("logger --server 127.0.0.1 --port 514 --udp --rfc5424 'first of all'")
    count = (
        "import sqlite3; print(sqlite3.connect('file:/var/lib/logguardd/archive.db?mode=ro', uri=True)"
        """.execute("SELECT count(*) FROM logs WHERE message = 'first of all'").fetchone()[0])"""
    )
    wait_until(lambda: server.run("python3", "-c", count).stdout == "1\n", what="the message in the archive")


def test_host_whose_rsyslog_has_the_port(fleet, client):
    client.apt("install", "--no-install-recommends", "rsyslog-openssl")
    remember(client, fleet.packages.current)
    client.write(
        "/etc/rsyslog.d/10-receive.conf",
        'module(load="imudp")\ninput(type="imudp" port="514")\nmodule(load="imtcp")\ninput(type="imtcp" port="514")\n',
    )
    client.sh("systemctl restart rsyslog")
    said = install(client, fleet.packages.current)
    assert "port 514 is already in use here, by rsyslogd" in said
    assert client.sh("dpkg-query -W -f '${Status}' logguardd") == "install ok installed"
    # As it advises, once the port is free.
    assert "systemctl restart logguardd.socket logguardd" in said
    client.sh("rm /etc/rsyslog.d/10-receive.conf; systemctl restart rsyslog")
    client.sh("systemctl restart logguardd.socket logguardd")
    wait_active(client, "logguardd.socket")
    wait_active(client, "logguardd.service")
    assert client.state() == "running"
