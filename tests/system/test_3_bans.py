"""A brute-force run on the client's sshd: banned by nftables on the server, and by the follower on the client."""

import json
import re

from tests.servers.process import wait_until
from tests.system.fleet import ATTACKER, ATTACKER6, CLIENT, CLIENT_NAME, SERVER, SERVER_NAME, banned, wait_active

FOLLOWER = f"logguardd-firewall@{SERVER_NAME}.service"


def test_the_client_follows(server, client):
    made = json.loads(server.run("logguardctl", "client-config", "--json", CLIENT_NAME).stdout)
    assert len(made["follow"]) == 2
    for line in made["follow"]:
        client.sh(line)
    wait_active(client, FOLLOWER)
    wait_until(
        lambda: (
            f"following https://{SERVER_NAME}:9515, 0 bans" in client.sh(f"systemctl show -P StatusText {FOLLOWER}")
        ),
        what="the follower",
    )
    client.run("systemd-analyze", "security", "--no-pager", "--threshold=15", FOLLOWER)
    assert client.state() == "running"


def test_brute_force_is_banned_on_both(fleet, server, client):
    assert fleet.reaches(CLIENT, 22)
    assert fleet.reaches(SERVER, 22)
    assert banned(server) == banned(client) == {}
    fleet.attack(CLIENT)
    for guest in (server, client):
        left = wait_until(lambda guest=guest: banned(guest).get(ATTACKER), what=f"the ban on {guest.name}")
        assert 500 < left <= 600
        assert not fleet.reaches(CLIENT if guest is client else SERVER, 22)
    [ban] = json.loads(server.sh("logguardctl bans --json"))["bans"]
    assert ban["jail"] == "auth"
    assert "sshd-failed-password" in ban["reason"]


def test_nobody_else_is(server, client):
    """Least of all the client, whose messages these are, and the router behind which the attacker is."""
    server.sh(f"ping -c 1 -W 2 {CLIENT} || bash -c 'exec 3<>/dev/tcp/{CLIENT}/22'")
    client.sh(f"bash -c 'exec 3<>/dev/tcp/{SERVER}/22'")
    assert set(banned(server)) == set(banned(client)) == {ATTACKER}


def test_an_unban_reaches_both(fleet, server, client):
    server.sh(f"logguardctl unban {ATTACKER}")
    for guest in (server, client):
        wait_until(lambda guest=guest: banned(guest) == {}, what=f"the end of the ban on {guest.name}")
    assert fleet.reaches(CLIENT, 22)


def test_ipv6_is_banned_by_its_network(fleet, server, client):
    fleet.attack("fd20:2::2")
    network = f"{ATTACKER6[: ATTACKER6.index('::')]}::/64"
    for guest in (server, client):
        wait_until(lambda guest=guest: network in banned(guest), what=f"the ban on {guest.name}")
    assert not fleet.reaches("fd20:1::2", 22)
    assert fleet.reaches(SERVER, 22)
    server.sh(f"logguardctl unban {network}")
    wait_until(lambda: banned(client) == {}, what="the end of the ban")


def test_a_follower_outlives_its_server(fleet, server, client):
    server.sh(f"logguardctl ban {ATTACKER} --for 1h --reason 'for the tests to come'")
    server.sh("logguardctl ban 192.0.2.77 --for 5s")
    wait_until(lambda: set(banned(client)) == {ATTACKER, "192.0.2.77"}, what="the bans on the client")
    server.sh("systemctl stop logguardd.service logguardd.socket logguardd-tls.socket")
    wait_until(lambda: "logguardd-firewall" in client.journal("-b", "-u", FOLLOWER, "-p", "warning"), what="a warning")
    # Bans end as they were to end, and only those.
    wait_until(lambda: "192.0.2.77" not in banned(client), what="the end of the short ban")
    assert 0 < banned(client)[ATTACKER] <= 3600
    assert client.sh(f"systemctl is-active {FOLLOWER}") == "active"
    server.sh("systemctl start logguardd.socket logguardd-tls.socket logguardd.service")
    wait_until(
        lambda: re.search("following .*, 1 bans?", client.sh(f"systemctl show -P StatusText {FOLLOWER}")),
        timeout=60, what="the follower back in step",
    )  # fmt: skip
    assert 0 < banned(client)[ATTACKER] <= 3600
