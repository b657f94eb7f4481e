"""`logguardctl setup` on the server, what `client-config` prints on a host: its messages are in the server's PostgreSQL."""

import json

from tests.servers.process import wait_until
from tests.system.fleet import ADMINISTRATOR, CLIENT, CLIENT_NAME, SERVER_NAME, archived, query, wait_active

SETUP = (
    "env", f"SSH_CONNECTION={ADMINISTRATOR} 50022 10.20.1.2 22",
    "logguardctl", "setup", "--yes", "--postgres-admin", "local", "--redis", "redis://127.0.0.1:6379/0",
    "--firewall", "nftables", "--tls", "--tls-name", SERVER_NAME, "--senders", "10.20.0.0/16", "--senders", "127.0.0.0/8",
)  # fmt: skip


def test_setup(server):
    server.apt("install", "--no-install-recommends", "python3-cryptography")
    server.run(*SETUP, timeout=120)
    for unit in ("logguardd.socket", "logguardd-tls.socket", "logguardd.service", "logguardd-firewall.service"):
        wait_active(server, unit)
        assert server.sh(f"systemctl is-enabled {unit}") == "enabled"
    status = json.loads(server.sh("logguardctl status --json"))
    assert {name: part["state"] for name, part in status["components"].items()} == dict.fromkeys(
        ("journal", "archive", "detector", "limiter", "firewall"), "up"
    )
    assert status["components"]["limiter"]["detail"] == "redis"
    assert set(status["listening"]) == {"udp", "tcp", "tls"}
    assert status["bans"]["firewall"] == "nftables"
    # The private keys are for the daemon, and the authority's for root alone.
    assert server.sh("stat -c '%U:%G %a' /etc/logguardd/tls/server.key") == "root:logguardd 640"
    assert server.sh("stat -c '%U:%G %a' /etc/logguardd/tls/ca.key") == "root:root 600"
    assert server.sh("stat -c '%U:%G %a' /etc/logguardd/logguardd.toml") == "root:logguardd 640"
    assert ADMINISTRATOR in server.file("/etc/logguardd/logguardd.toml")
    refused = server.run("logguardctl", "ban", ADMINISTRATOR, check=False)
    assert refused.returncode == 1
    assert "allowlist" in refused.stderr


def test_setup_again_changes_nothing(server):
    before = server.sh("systemctl show -P MainPID logguardd logguardd-firewall; sha256sum /etc/logguardd/*.toml")
    server.run(*SETUP, timeout=120)
    assert (
        server.sh("systemctl show -P MainPID logguardd logguardd-firewall; sha256sum /etc/logguardd/*.toml") == before
    )
    server.sh("logguardd check-config")


def test_the_server_is_as_it_should_be_after_setup(server):
    assert server.state() == "running"
    assert server.journal("-b", "-p", "warning", "-u", "logguardd.service") == ""


def test_client(server, client):
    script = server.run("logguardctl", "client-config", CLIENT_NAME).stdout
    client.run("sh", stdin=script)
    assert client.sh("stat -c %a /etc/rsyslog.d/logguardd/key.pem") == "600"
    wait_active(client, "rsyslog.service")


def test_messages_of_the_client_are_in_postgresql(server, client):
    client.sh("logger -t payroll -p local0.notice 'paid 0042 in full'")
    wait_until(lambda: archived(server, "paid 0042 in full"), what="the client's message in PostgreSQL")
    columns = "client_id, service_name, log_level, origin, tableoid::regclass"
    [[host, service, level, origin, table]] = query(
        server, f"SELECT {columns} FROM logs WHERE message = 'paid 0042 in full'"
    )
    assert (host, service, level) == ("web", "payroll", "notice")
    assert origin == f"tls://{CLIENT} ({CLIENT_NAME})"
    assert table.startswith("logs_")


def test_nobody_else_gets_a_message_in(fleet, server):
    """Neither from another network, nor over TLS without a certificate."""
    count = query(server, "SELECT count(*) FROM logs WHERE message LIKE '%forged%'")
    fleet.attacker.run("logger", "--server", "10.20.1.2", "--port", "514", "--udp", "forged by datagram")
    fleet.attacker.run("logger", "--server", "10.20.1.2", "--port", "514", "--tcp", "forged by stream", check=False)
    server.sh(
        "printf '33 <14>1 - a b - - - forged over TLS!' |"
        " timeout 5 openssl s_client -quiet -connect 127.0.0.1:6514 -CAfile /etc/logguardd/tls/ca.pem || true"
    )
    server.sh("logger --server 127.0.0.1 --port 514 --tcp --octet-count 'the last of these'")
    wait_until(lambda: archived(server, "the last of these"), what="the message behind the forged ones")
    assert query(server, "SELECT count(*) FROM logs WHERE message LIKE '%forged%'") == count == [["0"]]
