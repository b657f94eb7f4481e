"""Both machines are rebooted, and the server loses its power."""

from tests.servers.process import wait_until
from tests.system.fleet import ATTACKER, CLIENT, SERVER, archived, banned


def still_banned(guest, left):
    now = wait_until(lambda: banned(guest).get(ATTACKER), timeout=60, what=f"the ban on {guest.name}")
    assert 0 < now <= left


def test_reboot_keeps_bans(fleet, server, client):
    left = banned(server)[ATTACKER]
    for guest in (server, client):
        guest.reboot()
        assert guest.state() == "running"
    for guest in (server, client):
        still_banned(guest, left)
    assert not fleet.reaches(CLIENT, 22)


def test_messages_come_again(server, client):
    client.sh("logger 'up again'")
    wait_until(lambda: archived(server, "up again") == 1, what="the message")
    assert archived(server, "paid 0042 in full") == 1


def test_power_failure(fleet, server, client):
    left = banned(server)[ATTACKER]
    server.kill()
    client.sh("logger 'while nobody was there'")
    still_banned(client, left)
    server.start()
    assert server.state() == "running"
    still_banned(server, left)
    assert not fleet.reaches(SERVER, 22)
    wait_until(lambda: archived(server, "while nobody was there"), timeout=60, what="the message of meanwhile")
    assert archived(server, "paid 0042 in full") == 1
